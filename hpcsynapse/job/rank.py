"""The first process of every rank: knows itself, pins, proves where it is, runs the program, records its end.

Started by the launcher as `python -m hpcsynapse.job rank RUN_DIR -- PROGRAM...`; needs only the standard library, so it
also works inside containers. Its exit code is the program's (128 + signal when one ended it).
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from hpcsynapse.errors import HpcSynapseError, PlacementError
from hpcsynapse.files import read_json, reported, write_json
from hpcsynapse.job import network
from hpcsynapse.job.devices import BY_NODE, granted_devices, is_rocm, own_devices
from hpcsynapse.job.discovery import RankIdentity, discover, rank_told
from hpcsynapse.job.evidence import evidence_of_this_process, unlike_devices, verify
from hpcsynapse.job.program import Program, record_failure
from hpcsynapse.job.sampler.start import Beside
from hpcsynapse.recording import environment as recording
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.spec.job import JobSpec

_LOOK_SECONDS = 1.0  # between looks for the notice of a signal, at least
_LOOKS_A_SECOND = 100  # at that one file, by all ranks together


def main(arguments: list[str]) -> int:
    """Run one rank: `RUN_DIR -- PROGRAM...`; return its exit code."""
    split = arguments.index("--")
    run = RunDirectory(Path(arguments[0]))
    program = arguments[split + 1 :]
    spec = _as_started(run.load_spec())
    attempt = os.environ.get("HPCSYNAPSE_ATTEMPT", "0")
    run.evidence(attempt).mkdir(parents=True, exist_ok=True)
    if os.environ.get("HPCSYNAPSE_ROLE") == "ps":
        return _serve(run, spec, program, attempt)
    identity = None
    try:
        identity = discover(os.environ, spec.resources, emulate=spec.launch.emulate)
        granted = _pin_and_prove(run, spec, identity, attempt)
    except HpcSynapseError as error:
        rank = identity.rank if identity else rank_told(os.environ)
        print(f"hpcsynapse: rank {rank}: {error}", file=sys.stderr, flush=True)
        record_failure(run, attempt, rank, 1, str(error))
        return 1
    if spec.command and spec.launch.record == "auto":
        _record(run, spec, identity.rank, attempt)
    if identity.rank == 0:
        _announce(run, RunState.TRAINING if spec.command else RunState.SETUP, attempt)
    watched = Program(
        run,
        identity.rank,
        attempt,
        limit=spec.launch.wait_limit,
        watched=not spec.command,
        notice_every=max(_LOOK_SECONDS, identity.world_size / _LOOKS_A_SECOND),
    )
    with Beside(run, spec, attempt, identity, granted):
        code = watched.execute(program, run.rank_log(identity.rank))
    if not code and identity.rank == 0 and spec.command and not _has_stopped(run, attempt):
        _announce(run, RunState.FINISHED, attempt)
    return code


def _as_started(spec: JobSpec) -> JobSpec:
    """Return the description of this start, which may have fewer nodes than the run was submitted for."""
    nodes = os.environ.get("HPCSYNAPSE_USED_NODES", "")
    return spec.with_("resources", nodes=int(nodes)) if spec.survive.moves and nodes.isdecimal() else spec


def _record(run: RunDirectory, spec: JobSpec, rank: int, attempt: str) -> None:
    """Let every Python below this process record the steps of the program; rank 0 leaves word of how that goes."""
    device = os.environ.get("HPCSYNAPSE_DEVICE_INDEX") if spec.launch.set_device else None
    launch, steps = spec.launch, spec.train.steps
    same = "allow" if launch.share_devices or launch.emulate else launch.same_device
    os.environ.update(recording.variables(os.environ, launch.samples_per_step, steps, device, same))
    if rank == 0:
        with suppress(OSError):
            recording.remark_path(run.path, attempt, rank).write_text(recording.NO_PYTHON + "\n")


def _serve(run: RunDirectory, spec: JobSpec, program: list[str], attempt: str) -> int:
    """Run a parameter server, which is no rank and sees no device; its end is put on record as a failure of its own."""
    index = int(os.environ["HPCSYNAPSE_TASK_INDEX"])
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    evidence = {
        "role": "ps",
        "task_index": index,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cpus": sorted(os.sched_getaffinity(0)),
    }
    write_json(run.evidence(attempt) / f"ps-{index:05d}.json", evidence)
    with Beside(run, spec, attempt):
        return Program(run, None, attempt, limit=spec.launch.wait_limit).execute(program, run.server_log(index))


def _pin_and_prove(run: RunDirectory, spec: JobSpec, identity: RankIdentity, attempt: str) -> list[str]:
    """Give the rank its device and environment, write its evidence; rank 0 waits for all and judges them.

    Returns the devices that were granted on this node.
    """
    gpus = 0 if spec.launch.emulate else spec.resources.gpus
    granted = granted_devices(os.environ, gpus, node=identity.node_rank)
    if not granted and spec.site.gpu_request == "none":  # a queue that counts no GPUs grants none
        granted = granted_devices({}, gpus)
    own = own_devices(granted, identity, gpus) if spec.launch.pin != "none" else []
    _set_environment(spec, identity, granted, own, gpus)
    if spec.resources.nodes > 1 and not spec.launch.emulate:
        os.environ.update(network.bind(os.environ, spec.site.interface))
    evidence = evidence_of_this_process(identity, granted, own[0] if own else None)
    evidence["cuda_visible_devices"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    write_json(run.evidence(attempt) / f"rank-{identity.rank:05d}.json", evidence)
    if identity.rank == 0:
        _gather(run, spec, attempt)
    return granted


def _set_environment(spec: JobSpec, identity: RankIdentity, granted: list[str], own: list[str], gpus: int) -> None:
    os.environ.update(identity.neutral_variables())
    os.environ.setdefault("OMP_NUM_THREADS", str(spec.threads))
    if spec.launch.pin == "none" and not os.environ.get(BY_NODE):
        return
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES") if is_rocm(os.environ) else ("CUDA_VISIBLE_DEVICES",)
    if not gpus:
        names, visible = ("CUDA_VISIBLE_DEVICES",), list[str]()
    elif spec.pins_one_device:
        visible = own
    elif spec.launch.pin == "none":  # nothing but the job's own locks keeps it from the GPUs of others
        visible = granted
    else:
        visible = granted
        os.environ["HPCSYNAPSE_DEVICE_INDEX"] = str(granted.index(own[0]))
    os.environ.update(dict.fromkeys(names, ",".join(visible)))


def _gather(run: RunDirectory, spec: JobSpec, attempt: str) -> None:
    """Wait for every rank's evidence, judge it, and leave placement.json beside the results."""
    world, folder = spec.resources.world_size, run.evidence(attempt)
    limit = time.monotonic() + spec.launch.start_limit
    found: dict[int, dict[str, object]] = {}
    pause = 0.01
    while len(found) < world and time.monotonic() < limit:
        # Creating a file here makes NFS clients look at the directory again instead of trusting a cached listing.
        (folder / ".look").touch()
        (folder / ".look").unlink(missing_ok=True)
        # Looked at before the evidence: a rank that had shown its evidence may well have failed since.
        failed = {int(path.stem[8:]) for path in folder.glob("failure-*.json")}
        for path in folder.glob("rank-*.json"):
            rank = int(path.stem[5:])
            if rank not in found and (item := read_json(path)):
                found[rank] = item
        if failed - found.keys():
            break  # a rank that could not be placed has said why; there is nothing to wait for
        if len(found) < world:
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)
    evidence = [found[rank] for rank in sorted(found)]
    problem = ""
    try:
        verify(evidence, world_size=world, share_devices=spec.launch.share_devices or spec.launch.emulate)
    except PlacementError as error:
        problem = str(error)
    if warning := unlike_devices(evidence):
        print(f"hpcsynapse: warning: {warning}", file=sys.stderr, flush=True)
    told = {"attempt": attempt, "verified": not problem, "problem": problem, "warning": warning, "ranks": evidence}
    with reported("placement.json"):  # the ranks run all the same
        write_json(run.placement, told)
    if problem:
        raise PlacementError(problem)


def _has_stopped(run: RunDirectory, attempt: str) -> bool:
    """Tell whether the program itself said that it ends because it was asked to."""
    told = read_json(run.status) or {}
    return told.get("state") == RunState.STOPPED and told.get("attempt") == attempt


def _announce(run: RunDirectory, state: str, attempt: str) -> None:
    """Write the state of a user's own program, which writes none itself, or that a new start has begun."""
    write_json(run.status, {"state": state, "time": time.time(), "attempt": attempt})
    with reported("history"):
        run.append_history(state)
