"""From a description to a job in the queue: resolve, check, write the run directory, hand over."""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcsynapse import checks, launchers, process, render, status, store
from hpcsynapse.errors import CommandError, SpecError, SubmitError
from hpcsynapse.rundir import FINAL_STATES, RunDirectory, read_json, write_json
from hpcsynapse.schedulers import create
from hpcsynapse.spec import JobSpec
from hpcsynapse.usercode_checks import FOLDER_ARGUMENTS, is_folder, label

DEFAULT_RUNS = "runs"


@dataclass(frozen=True, slots=True)
class Submission:
    """A run that a queue has taken."""

    run: RunDirectory
    job_id: str
    spec: JobSpec


def runs_folder(explicit: str | Path | None = None) -> Path:
    """Return the folder of all runs: the one given, HPCSYNAPSE_RUNS, or ./runs."""
    return Path(explicit or os.environ.get("HPCSYNAPSE_RUNS") or DEFAULT_RUNS).expanduser().resolve()


def detect_scheduler() -> str:
    """Return the queue that answers here: Slurm, BSC's commands, LoadLeveler; else `local`.

    Raises SubmitError when Slurm is configured but does not answer: running on a login node instead of the queue
    must be somebody's decision.
    """
    if not shutil.which("sbatch"):
        others = (("minotauro", ("mnsubmit", "mnq")), ("loadleveler", ("llsubmit", "llq")))
        return next((name for name, commands in others if all(map(shutil.which, commands))), "local")
    try:
        done = process.run(["sinfo", "--noheader", "--format=%P"], timeout=20)
    except CommandError as error:
        done = process.Completed(1, "", str(error))
    if done.code == 0:
        return "slurm"
    if os.environ.get("SLURM_CONF") or Path("/etc/slurm/slurm.conf").exists():
        raise SubmitError(
            f"Slurm is configured here but does not answer: {done.stderr.strip() or 'no message'}; "
            "try again, or run on this machine with --scheduler local", transient=True,
        )  # fmt: skip
    return "local"


def resolve(spec: JobSpec, runs: Path) -> JobSpec:
    """Return the description with every `auto` decided and every default of the site filled in."""
    if spec.queue.scheduler == "auto":
        spec = spec.with_("queue", scheduler="local" if spec.launch.emulate else detect_scheduler())
    spec = _resolve_training(spec)
    if spec.launch.launcher == "auto":
        spec = spec.with_("launch", launcher=launchers.choose(spec))
    if spec.resources.ranks_per_node is None:
        spec = spec.with_("resources", ranks_per_node=spec.resources.local_size)
    if spec.resources.cpus is None and (cpus := _site_cpus(spec)):
        spec = spec.with_("resources", cpus=cpus)
    spec = replace(spec, name=_free_name(spec, runs), workdir=spec.workdir or str(Path.cwd()))
    if spec.site.template_dir:
        spec = spec.with_("site", template_dir=str(Path(spec.site.template_dir).expanduser().resolve()))
    return spec.with_("train", **_absolute_paths(spec))


def _absolute_paths(spec: JobSpec) -> dict[str, Any]:
    """Return the settings of training that name folders, as absolute paths; entries of the store become theirs."""
    train, base = spec.train, spec.workdir or "."
    changed: dict[str, Any] = {}
    if is_folder(train.model):
        changed["model"] = store.locate(train.model, "model", base)
    if train.data_path:
        changed["data_path"] = store.locate(train.data_path, "dataset", base)
    if is_folder(train.data):
        changed["data"] = store.locate(train.data, "loader", base)
        kinds = dict(zip(FOLDER_ARGUMENTS, ("dataset", "loader"), strict=True))
        named = {name: value for name, value in train.data_args.items() if name in kinds and isinstance(value, str)}
        located = {name: store.locate(value, kinds[name], base) for name, value in named.items()}
        changed["data_args"] = {**train.data_args, **located}
    return changed


def _resolve_training(spec: JobSpec) -> JobSpec:
    if spec.command:
        return spec
    train, world = spec.train, spec.resources.world_size
    if train.strategy == "auto":
        spec = spec.with_("train", strategy="single" if world == 1 else "allreduce")
    if train.engine == "auto":
        spec = spec.with_("train", engine=checks.choose_engine(spec)[0])
    if train.sharding == "auto":
        spec = spec.with_("train", sharding="contiguous" if train.data == "npy" else "strided")
    return spec


def _site_cpus(spec: JobSpec) -> int | None:
    """Return a rank's share of the node: the site's cores per GPU, or the node's cores by ranks."""
    site, resources = spec.site, spec.resources
    if site.cpus_per_gpu and resources.gpus:
        return max(1, site.cpus_per_gpu * resources.gpus // resources.local_size)
    if site.cpus_per_node and (resources.exclusive or resources.gpus == site.gpus_per_node):
        return max(1, site.cpus_per_node // resources.local_size)
    return None


def _free_name(spec: JobSpec, runs: Path) -> str:
    """Return the name asked for, or a telling one; numbered when a run of that name exists."""
    resources = spec.resources
    what = Path(spec.command[0]).name if spec.command else label(spec.train.model).replace(":", "-")
    what = "".join(character if character.isalnum() or character in "._-" else "-" for character in what)
    what = what.encode("ascii", "ignore").decode().lstrip("._-")[:30] or "run"
    base = spec.name or f"{what}-{resources.nodes}x{resources.local_size}-{time.strftime('%Y%m%d-%H%M%S')}"
    name, number = base, 1
    while (runs / name).exists():
        number += 1
        name = f"{base[:56]}-{number}"
    return name


def submit(spec: JobSpec, runs: str | Path | None = None) -> Submission:
    """Resolve, check and submit a description; returns the run and its job id.

    Raises SpecError or CheckError before anything is written, SubmitError when the queue refuses; the run directory
    is then in state FAILED with the queue's reason.
    """
    folder = runs_folder(runs)
    spec = resolve(spec, folder)
    checks.require(checks.run_checks(spec, folder))
    return submit_checked(spec, folder)


def submit_checked(spec: JobSpec, runs: Path, after: str | None = None) -> Submission:
    """Submit a description that is resolved and checked already; its job waits for the job `after` to end."""
    while True:
        try:
            run, script = write_run(spec, runs / str(spec.name))
            break
        except SpecError:
            if not (runs / str(spec.name)).exists():
                raise
            spec = replace(spec, name=_free_name(spec, runs))  # another submit took the name at this moment
    return Submission(run, _hand_over(run, spec, script, after), spec)


def write_run(spec: JobSpec, path: Path, packed: bool = False) -> tuple[RunDirectory, Path]:
    """Make the run directory of a resolved description with its job file, and return both."""
    text = render.render(spec, path, packed=packed)  # before anything is written
    job_file = create(spec.queue.scheduler).job_file
    run = RunDirectory.create(path.parent, spec, {job_file: text})
    return run, run.job_script(job_file)


def resubmit(run: RunDirectory) -> Submission:
    """Queue an ended run again in its own directory, where training continues from the newest checkpoint.

    Raises SpecError while the run goes on: two jobs would write the same files.
    """
    spec = run.load_spec()
    with run.run_toml.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecError(f"run {run.name} is being queued again by another command at this moment") from None
        except OSError:  # a file system without locks
            pass
        return _resubmit(run, spec)


def _resubmit(run: RunDirectory, spec: JobSpec) -> Submission:
    state = status.statuses([run])[0].state
    if state not in (*FINAL_STATES, "CREATED"):
        raise SpecError(f"run {run.name} has not ended: {state}; stop or cancel it first")
    script = run.job_script(create(spec.queue.scheduler).job_file)
    if not script.is_file():
        raise SpecError(f"run {run.name} has no job file; submit its run.toml instead")
    run.stop.unlink(missing_ok=True)
    run.exit.unlink(missing_ok=True)
    run.logs.mkdir(exist_ok=True)  # queues start no job whose log cannot be opened
    return Submission(run, _hand_over(run, spec, script), spec)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user number without a name, as containers have
        return str(os.getuid())


def _hand_over(run: RunDirectory, spec: JobSpec, script: Path, after: str | None = None) -> str:
    return hand_over([run], spec, script, after)[0]


def hand_over(
    runs: Sequence[RunDirectory], spec: JobSpec, script: Path, after: str | None = None, *, array: bool = False,
    allocation_nodes: int | None = None,
) -> list[str]:  # fmt: skip
    """Give a job file to its queue, note that in all runs it is for, and return their job ids.

    The runs are the tasks of an `array`, or share an allocation of so many nodes. Raises SubmitError when the queue
    refuses; the runs are FAILED then.
    """
    scheduler = create(spec.queue.scheduler)
    command = scheduler.submit_command(script)
    command[1:1] = scheduler.after_options(after) if after else scheduler.submit_options(spec.queue.dependency)
    _, removed = process.clean_environment(os.environ)
    record = {
        "scheduler": scheduler.name, "command": command, "time": time.time(), "user": _user(),
        "host": socket.gethostname(), "removed_environment": removed,
        **({} if allocation_nodes is None else {"allocation_nodes": allocation_nodes}),
    }  # fmt: skip
    try:
        job_id = scheduler.parse_job_id(process.run_checked(command, timeout=120, cwd=str(script.parent)).stdout)
    except BaseException as error:
        reason = str(error) if isinstance(error, CommandError) else "interrupted"
        for run in runs:
            write_json(run.submission, {**record, **_earlier(run), "error": reason})
            run.append_history("FAILED", f"not submitted: {reason}")
        if isinstance(error, CommandError):
            whose = f"run {runs[0].name} is" if len(runs) == 1 else f"{len(runs)} runs are"
            raise SubmitError(f"{error}; {whose} marked FAILED") from None
        raise
    job_ids = [scheduler.array_task_id(job_id, task) if array else job_id for task in range(len(runs))]
    for run, own in zip(runs, job_ids, strict=True):
        write_json(run.submission, {**record, **_earlier(run), "job_id": own})
        run.append_history("QUEUED", job_id=own)
    return job_ids


def _earlier(run: RunDirectory) -> dict[str, Any]:
    previous = read_json(run.submission) or {}
    return {"earlier_job_ids": [*previous.get("earlier_job_ids", []), *filter(None, [previous.get("job_id")])]}
