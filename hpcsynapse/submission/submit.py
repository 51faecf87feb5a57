"""From a description to a job in the queue: resolve, check, write the run directory, hand over."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import SpecError
from hpcsynapse.files import write_atomic
from hpcsynapse.findings import Finding, require
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.find import runs_folder
from hpcsynapse.runs.starts import note_resumed
from hpcsynapse.runs.states import RESTARTABLE, RunState
from hpcsynapse.runs.suspects import Suspect, suspects
from hpcsynapse.schedulers import create
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import checks, status
from hpcsynapse.submission.enqueue import Queued, enqueue, fate_is_unknown
from hpcsynapse.submission.prepare import Prepared, prepare
from hpcsynapse.submission.render import render
from hpcsynapse.submission.resolve import free_name


@dataclass(frozen=True, slots=True)
class Submission:
    """A run that a queue has taken."""

    run: RunDirectory
    job_id: str
    spec: JobSpec
    notes: tuple[str, ...] = ()  # for the user: what the queue said, what was left out of the job's environment
    findings: tuple[Finding, ...] = ()  # what the checks said beforehand, warnings among them


def notes(queued: Queued) -> tuple[str, ...]:
    """Return what a user should read of a job that was queued."""
    found = [f"the queue says: {line}" for line in queued.said.splitlines() if line.strip()]
    if queued.removed:
        names = ", ".join(sorted(queued.removed))
        found.append(f"not passed on to the job, since they belong to another job or to a rank: {names}")
    return tuple(found)


def submit(spec: JobSpec, runs: str | Path | None = None) -> Submission:
    """Prepare and submit a description; returns the run, its job id and what else there is to say.

    Raises SpecError or CheckError before anything is written, SubmitError when the queue refuses; the run directory
    is then in state FAILED with the queue's reason.
    """
    return submit_prepared(prepare(spec, runs_folder(runs)))


def submit_prepared(prepared: Prepared, after: str | None = None) -> Submission:
    """Submit a run as it was prepared; its job waits for the job `after` to end. Raises what `submit` does."""
    require(prepared.findings)
    while True:
        try:
            run, script = prepared.write()
            break
        except SpecError:
            if not prepared.path.exists():
                raise
            runs = prepared.path.parent  # another submit took the name at this moment
            prepared = prepared.at(runs / free_name(prepared.spec, runs))
    queued = enqueue([run], prepared.spec, script, after)
    return Submission(run, queued.job_ids[0], prepared.spec, notes(queued), prepared.findings)


def resubmit(run: RunDirectory, time: str | None = None, exclude_failed: bool = False) -> Submission:
    """Queue an ended run again in its own directory, where training continues from the newest checkpoint.

    `time` is another time limit; `exclude_failed` leaves out hosts that its starts failed on twice. Raises
    SpecError while the run goes on: two jobs would write the same files.
    """
    with alone(run):
        return _resubmit(run, time, exclude_failed)


@contextmanager
def alone(run: RunDirectory) -> Iterator[None]:
    """Keep every other command from queueing the run again meanwhile; raises SpecError when one is at it."""
    with run.run_toml.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecError(f"run {run.name} is being queued again by another command at this moment") from None
        except OSError:  # a file system without locks
            pass
        yield


def write_job_file(run: RunDirectory, spec: JobSpec) -> None:
    """Replace a run's job file by that of a changed description; raises CheckError or RenderError."""
    text = render(spec, run.path)
    require(checks.check_job_file(spec, text))
    write_atomic(run.job_script(create(spec.queue.scheduler).job_file), text, private=spec.launch.has_secrets)


def _resubmit(run: RunDirectory, time: str | None, exclude_failed: bool) -> Submission:
    spec = run.load_spec()
    state = status.statuses([run])[0].state
    if fate_is_unknown(run):  # also of a run that was cancelled meanwhile
        raise SpecError(
            f"run {run.name}: whether the queue has its job is not known yet; look again with `hpcsynapse status "
            f"{run.name}`, or begin another run with `hpcsynapse submit {run.run_toml}`"
        )
    if state not in RESTARTABLE:
        raise SpecError(_not_ended(run, state))
    script = run.job_script(create(spec.queue.scheduler).job_file)
    if not script.is_file():
        raise SpecError(f"run {run.name} has no job file; submit its run.toml instead")
    if changed := time is not None:
        spec = spec.with_("resources", time=time)
    left_out = suspects(run) if exclude_failed or spec.queue.exclude_failed else []
    if changed or left_out or spec.queue.exclude_failed:
        write_job_file(run, leaving_out(spec, left_out))
    run.stop.unlink(missing_ok=True)
    run.exit.unlink(missing_ok=True)
    run.logs.mkdir(exist_ok=True)  # queues start no job whose log cannot be opened
    run.tell_start()
    note_resumed(run)
    queued = enqueue([run], spec, script)
    if changed:  # now, since the file that is replaced is the lock
        run.write_spec(spec)
    said = [f"leaves out {one.host}: {'; '.join(one.reasons)}" for one in left_out]
    return Submission(run, queued.job_ids[0], spec, (*said, *notes(queued)))


def leaving_out(spec: JobSpec, hosts: Iterable[Suspect]) -> JobSpec:
    """Return a description that leaves out these hosts too; its run.toml stays, so that strikes may expire."""
    return spec.with_("queue", exclude=tuple(dict.fromkeys((*spec.queue.exclude, *(one.host for one in hosts)))))


def _not_ended(run: RunDirectory, state: RunState) -> str:
    asked = f"was asked to stop and has not ended yet: {state}" if run.stop.exists() else f"has not ended: {state}"
    name = run.name
    return f"run {name} {asked}; wait for it: hpcsynapse stop --wait {name}, or end it now: hpcsynapse cancel {name}"
