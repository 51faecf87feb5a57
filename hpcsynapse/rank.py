"""The first process of every rank: knows itself, pins, proves where it is, runs the program, records its end.

Started by the launcher as `python -m hpcsynapse.rank RUN_DIR -- PROGRAM...`; needs only the standard library, so it
also works inside containers. Its exit code is the program's (128 + signal when one ended it).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hpcsynapse import network, placement
from hpcsynapse.errors import HpcSynapseError, PlacementError
from hpcsynapse.placement import RankIdentity
from hpcsynapse.rundir import RunDirectory, read_json, write_json
from hpcsynapse.spec import JobSpec

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)


def main() -> int:
    """Run one rank and return its exit code."""
    split = sys.argv.index("--")
    run = RunDirectory(Path(sys.argv[1]))
    program = sys.argv[split + 1 :]
    spec = run.load_spec()
    attempt = os.environ.get("HPCSYNAPSE_ATTEMPT", "0")
    run.evidence(attempt).mkdir(parents=True, exist_ok=True)
    if os.environ.get("HPCSYNAPSE_ROLE") == "ps":
        return _serve(run, program, attempt)
    identity = None
    try:
        identity = placement.discover(os.environ, spec.resources, emulate=spec.launch.emulate)
        _pin_and_prove(run, spec, identity, attempt)
    except HpcSynapseError as error:
        rank = identity.rank if identity else int(os.environ.get("SLURM_PROCID", "0"))
        print(f"hpcsynapse: rank {rank}: {error}", file=sys.stderr, flush=True)
        _record_failure(run, attempt, rank, 1, str(error))
        return 1
    if identity.rank == 0:
        _announce(run, "TRAINING" if spec.command else "SETUP", attempt)
    code = _run(program, run, run.rank_log(identity.rank), identity.rank, attempt)
    if not code and identity.rank == 0 and spec.command:
        _announce(run, "FINISHED", attempt)
    return code


def _serve(run: RunDirectory, program: list[str], attempt: str) -> int:
    """Run a parameter server, which is no rank and sees no device; its end is put on record as a failure of its own."""
    index = int(os.environ["HPCSYNAPSE_TASK_INDEX"])
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    evidence = {"role": "ps", "task_index": index, "host": socket.gethostname(), "pid": os.getpid(),
                "cpus": sorted(os.sched_getaffinity(0))}  # fmt: skip
    write_json(run.evidence(attempt) / f"ps-{index:05d}.json", evidence)
    return _run(program, run, run.server_log(index), None, attempt)


def _pin_and_prove(run: RunDirectory, spec: JobSpec, identity: RankIdentity, attempt: str) -> None:
    """Give the rank its device and environment, write its evidence; rank 0 waits for all and judges them."""
    gpus = 0 if spec.launch.emulate else spec.resources.gpus
    granted = placement.granted_devices(os.environ, gpus)
    device = placement.pick_device(granted, identity, gpus) if spec.launch.pin != "none" else None
    _set_environment(spec, identity, granted, device, gpus)
    if spec.resources.nodes > 1 and not spec.launch.emulate:
        os.environ.update(network.bind(os.environ, spec.site.interface))
    evidence = placement.evidence_of_this_process(identity, granted, device)
    evidence["cuda_visible_devices"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    write_json(run.evidence(attempt) / f"rank-{identity.rank:05d}.json", evidence)
    if identity.rank == 0:
        _gather(run, spec, attempt)


def _set_environment(
    spec: JobSpec, identity: RankIdentity, granted: list[str], device: str | None, gpus: int
) -> None:  # fmt: skip
    values = {
        "RANK": identity.rank, "WORLD_SIZE": identity.world_size, "LOCAL_RANK": identity.local_rank,
        "LOCAL_WORLD_SIZE": identity.local_size, "NODE_RANK": identity.node_rank, "GROUP_RANK": identity.node_rank,
        "HPCSYNAPSE_NODES": spec.resources.nodes,
    }  # fmt: skip
    os.environ.update({key: str(value) for key, value in values.items()})
    os.environ.setdefault("OMP_NUM_THREADS", str(spec.threads))
    if device is not None and spec.launch.pin == "visible":
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    elif device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(granted)
        os.environ["HPCSYNAPSE_DEVICE_INDEX"] = str(granted.index(device))
    elif not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


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
        placement.verify(evidence, world_size=world, share_devices=spec.launch.share_devices or spec.launch.emulate)
    except PlacementError as error:
        problem = str(error)
    write_json(run.placement, {"attempt": attempt, "verified": not problem, "problem": problem, "ranks": evidence})
    if problem:
        raise PlacementError(problem)


def _run(program: list[str], run: RunDirectory, log_file: Path, rank: int | None, attempt: str) -> int:
    """Run the program with its output in the rank's log, passing signals on; record a failure, return its exit code.

    SIGTERM is put on record at once, since the SIGKILL that may follow leaves no time for it.
    """
    told_to_end = False
    with log_file.open("ab") as log:
        try:
            child = subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent)
        except OSError as error:
            log.write(f"hpcsynapse: cannot start {program[0]!r}: {error.strerror}\n".encode())
            code = 127 if isinstance(error, FileNotFoundError) else 126
            _record_failure(run, attempt, rank, code, _describe(code))
            return code

        def forward(number: int, _frame: FrameType | None) -> None:
            nonlocal told_to_end
            child.send_signal(number)
            if number == signal.SIGTERM and not told_to_end:
                told_to_end = True
                _record_failure(run, attempt, rank, 128 + number, _describe(128 + number), told_to_end=True)

        for number in _FORWARDED:
            signal.signal(number, forward)
        code = child.wait()
    code = 128 - code if code < 0 else code
    if code:
        _record_failure(run, attempt, rank, code, _describe(code), told_to_end=told_to_end)
    elif told_to_end and rank is not None:
        run.failure(attempt, rank).unlink(missing_ok=True)
    return code


def _end_with_parent() -> None:
    """Let the kernel kill the program when this process is killed (prctl(2)): it must not keep the device busy."""
    with suppress(ImportError, OSError, AttributeError):  # a Python without ctypes, or not Linux
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG


def _describe(code: int) -> str:
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return {75: "no progress within the wait limit", 127: "program not found"}.get(code, f"exit code {code}")


def _record_failure(
    run: RunDirectory, attempt: str, rank: int | None, code: int, reason: str, *, told_to_end: bool = False
) -> None:  # fmt: skip
    if rank is None:  # a server is started again, and missed by its workers where that does not help
        return
    record = {"rank": rank, "host": socket.gethostname(), "code": code, "reason": reason, "time": time.time(),
              "told_to_end": told_to_end}  # fmt: skip
    with suppress(OSError):  # a full disk must not end a program that was told to save
        write_json(run.failure(attempt, rank), record)


def _announce(run: RunDirectory, state: str, attempt: str) -> None:
    """Write the state of a user's own program, which writes none itself, or that a new start has begun."""
    write_json(run.status, {"state": state, "time": time.time(), "attempt": attempt})
    run.append_history(state)


if __name__ == "__main__":
    sys.exit(main())
