"""Gives a job file to its queue and finds out whether the queue took it.

A run's submission.json is written before the queue is asked: it names no job id then and says why. Whatever is killed,
and whatever fails on the way, such a run is neither failed nor ended: its state is UNKNOWN until the queue answers or
its job starts.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsynapse import __version__
from hpcsynapse.errors import CommandError, SubmitError
from hpcsynapse.files import read_json, user_name, write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.schedulers import SCHEDULERS, create
from hpcsynapse.schedulers.base import FoundJob, Scheduler
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import commands
from hpcsynapse.submission.commit import commit_of

_SUBMIT_SECONDS = 120.0
_FIND_SECONDS = 30.0
# A queue that answers and does not have a job that was handed over so long ago (seconds) never got it.
NEVER_ARRIVED = 600.0
CLOSED = "cancelled before it began"  # owner of a run that no job may begin any more


@dataclass(frozen=True, slots=True)
class Queued:
    """What came of handing over: a job id for each run, what the queue said, variables that the job will not see."""

    job_ids: list[str]
    said: str
    removed: dict[str, str]


def enqueue(
    runs: Sequence[RunDirectory],
    spec: JobSpec,
    script: Path,
    after: str | None = None,
    *,
    array: bool = False,
    allocation_nodes: int | None = None,
) -> Queued:
    """Give a job file to its queue and note in all runs it is for what came of it.

    The runs are the tasks of an `array`, or share an allocation of so many nodes. Raises SubmitError when the queue
    refuses (the runs are FAILED then) and when it cannot be known whether the queue took the job (UNKNOWN).
    """
    scheduler = create(spec.queue.scheduler)
    command = scheduler.submit_command(script)
    options = scheduler.after_options(after) if after else scheduler.submit_options(spec.queue.dependency)
    command[scheduler.submit_words : scheduler.submit_words] = options
    stdin = script if scheduler.reads_stdin else None
    record = _record(spec, command, script)
    if allocation_nodes is not None:
        record["allocation_nodes"] = allocation_nodes
    handing = _HandOver(runs, scheduler, record, array, spec)
    handing.note(unknown="the command that submits it has not answered yet")
    try:
        done = commands.run(command, timeout=_SUBMIT_SECONDS, cwd=str(script.parent), stdin=stdin)
    except CommandError as error:
        return handing.failed(str(error))
    except BaseException:
        handing.note(unknown="submitting was interrupted")
        raise
    if done.code:
        said = done.stderr.strip() or done.stdout.strip() or "no message"
        # One that was killed, or ended without a word, may have handed the job over before.
        killed = done.code < 0 or 128 < done.code < 160 or said == "no message"
        reason = f"{command[0]} failed with exit code {done.code}: {said}"
        return handing.failed(reason, accepted=killed, printed=_printed_id(scheduler, done.stdout))
    try:
        job_id = scheduler.parse_job_id(done.stdout)
    except CommandError as error:
        return handing.failed(str(error), accepted=True)
    return handing.taken(job_id, done.stderr.strip())


def _record(spec: JobSpec, command: Sequence[str], script: Path) -> dict[str, Any]:
    """Return what submission.json says of a submission, whatever comes of it."""
    return {
        "scheduler": spec.queue.scheduler,
        "command": command,
        "script": str(script),
        "job_name": spec.name,
        "time": time.time(),
        "user": user_name(),
        "host": socket.gethostname(),
        "removed_environment": commands.clean_environment(os.environ)[1],
        "version": __version__,
        "commit": commit_of(spec.workdir or str(Path.cwd())),
    }


class _HandOver:
    """One job file on its way to the queue, and the runs in which its fate is noted."""

    def __init__(
        self, runs: Sequence[RunDirectory], scheduler: Scheduler, record: dict[str, Any], array: bool, spec: JobSpec
    ) -> None:
        self._spec = spec
        self._runs, self._scheduler, self._record, self._array = runs, scheduler, record, array
        self._earlier = [_earlier_ids(run) for run in runs]
        for run in runs:
            run.owner.unlink(missing_ok=True)

    def note(self, **outcome: Any) -> None:
        """Write the outcome so far into every run."""
        for task, run in enumerate(self._runs):
            task_of = {"task": task} if self._array else {}
            write_json(run.submission, {**self._record, **task_of, "earlier_job_ids": self._earlier[task], **outcome})

    def taken(self, job_id: str, said: str) -> Queued:
        """Note the ids of the jobs."""
        scheduler, array = self._scheduler, self._array
        job_ids = [scheduler.array_task_id(job_id, task) if array else job_id for task in range(len(self._runs))]
        for task, (run, own) in enumerate(zip(self._runs, job_ids, strict=True)):
            more = {**({"said": said} if said else {}), **({"task": task} if array else {})}
            write_json(run.submission, {**self._record, "earlier_job_ids": self._earlier[task], **more, "job_id": own})
            run.append_history(RunState.QUEUED, job_id=own)
        return Queued(job_ids, said, dict(self._record["removed_environment"]))

    def failed(self, reason: str, accepted: bool = False, printed: str | None = None) -> Queued:
        """Look whether the queue has the job all the same; `accepted` says that the command named no failure.

        A site's wrapper may have `printed` the job's id and failed behind it. Raises SubmitError when the queue does
        not have the job, or when that cannot be known.
        """
        one = f"run {self._runs[0].name} is" if len(self._runs) == 1 else f"{len(self._runs)} runs are"
        unclear = accepted or printed is not None or self._scheduler.maybe_taken(reason)
        earlier = {one for ids in self._earlier for one in ids}
        try:
            jobs = _jobs(self._scheduler) or []
            if found := _job_of(jobs, str(self._record["script"]), earlier, printed):
                return self.taken(found, reason)
            if not unclear and (other := _namesake(jobs, str(self._record["job_name"]), earlier)):
                unclear = True
                reason += f"; but the queue has job {other.job_id} of the same name, from the file {other.script}"
        except CommandError as error:
            reason += f"; whether it has the job could not be asked: {error}" if unclear else ""
        if unclear:
            self.note(unknown=reason, **({"printed": printed} if printed else {}))
            for run in self._runs:
                run.append_history(RunState.UNKNOWN, f"may have been submitted: {reason}")
            raise SubmitError(
                f"{reason}\n{one} UNKNOWN: the queue may have taken the job. `hpcsynapse status` looks again; "
                "do not submit it once more before that has an answer"
            )
        self.note(error=reason)
        for run in self._runs:
            run.append_history(RunState.FAILED, f"not submitted: {reason}")
        hint = self._scheduler.explain_refusal(reason, self._spec, commands.ask)
        raise SubmitError("\n".join(filter(None, (reason, hint, f"{one} marked FAILED"))))


def fate_is_unknown(run: RunDirectory) -> bool:
    """Tell whether the queue may have a job of this run that nobody has found yet; it must not be queued again."""
    return "unknown" in run.read_submission()


def settle(runs: Iterable[RunDirectory]) -> None:
    """Look for the jobs of runs of which it is not known whether their queue took them, and note what is found.

    Each queue is asked once for all of them; one that does not answer leaves the runs as they are.
    """
    open_runs: dict[str, list[tuple[RunDirectory, dict[str, Any]]]] = {}
    for run in runs:
        submission = run.read_submission()
        if "unknown" in submission and submission.get("scheduler") in SCHEDULERS and read_json(run.exit) is None:
            open_runs.setdefault(str(submission["scheduler"]), []).append((run, submission))
    for name, waiting in open_runs.items():
        scheduler = create(name)
        with suppress(CommandError):
            jobs = _jobs(scheduler)
            for run, submission in waiting if jobs is not None else ():
                with suppress(OSError):  # somebody else's run
                    _settle_one(run, submission, jobs or [])


def _settle_one(run: RunDirectory, submission: dict[str, Any], jobs: list[FoundJob]) -> None:
    known = {key: value for key, value in submission.items() if key not in ("unknown", "task", "printed")}
    earlier = {str(one) for one in submission.get("earlier_job_ids", [])}
    found = [job.job_id for job in jobs if job.script == submission.get("script") and job.job_id not in earlier]
    if not found and (printed := submission.get("printed")):
        found = [job.job_id for job in jobs if _whole(job.job_id) == printed]
    task = submission.get("task")
    if isinstance(task, int):
        found = [one for one in found if one.partition(";")[0].endswith(f"_{task}")]
    if found:
        write_json(run.submission, {**known, "job_id": found[-1]})
        if run.owner_id() != CLOSED:  # else somebody has cancelled it meanwhile
            run.append_history(RunState.QUEUED, "found in the queue", job_id=found[-1])
    elif (
        _too_old(submission)
        and run.owner_id() in (None, CLOSED)
        and not _namesake(jobs, str(submission.get("job_name")), earlier)
    ):
        reason = f"{submission['unknown']}; the queue does not have it"
        write_json(run.submission, {**known, "error": reason})
        run.append_history(RunState.FAILED, f"not submitted: {reason}")


def _too_old(submission: dict[str, Any]) -> bool:
    """Tell whether a job that the queue does not list would have arrived by now, as seen by its own submitter."""
    if "printed" in submission:  # it did arrive
        return False
    begun = submission.get("time")
    mine = submission.get("user") == user_name() and submission.get("host") == socket.gethostname()
    return mine and isinstance(begun, (int, float)) and time.time() - begun > NEVER_ARRIVED


def _jobs(scheduler: Scheduler) -> list[FoundJob] | None:
    """Return the user's jobs, or None for a queue that cannot list them with their job files.

    Raises CommandError when it does not answer.
    """
    command = scheduler.find_command()
    if command is None:
        return None
    return scheduler.parse_found(commands.run_checked(command, timeout=_FIND_SECONDS).stdout)


def _job_of(jobs: list[FoundJob], script: str, earlier: set[str], printed: str | None = None) -> str | None:
    """Return the id of the job of this file that is not one of the earlier ones, or of its array.

    A wrapper may have handed over a copy of the file: then the id that it has `printed` counts, if it is the user's.
    """
    found = [job.job_id for job in jobs if job.script == script and job.job_id not in earlier]
    if found:
        return _whole(found[-1])
    return printed if printed in {_whole(job.job_id) for job in jobs} else None


def _namesake(jobs: list[FoundJob], name: str, earlier: set[str]) -> FoundJob | None:
    """Return a job of this name that is of no other run: of a copy of the job file, or somebody's own."""
    for job in jobs:
        if job.name == name and job.job_id not in earlier and not _submitted_a_run(job.script):
            return job
    return None


def _submitted_a_run(script: str) -> bool:
    """Tell whether a run was submitted by this very file."""
    return RunDirectory(Path(script).parent).read_submission().get("script") == script


def _whole(job_id: str) -> str:
    """Return the id of the array that a job is a task of, that of any other job as it is."""
    number, separator, cluster = job_id.partition(";")
    return number.partition("_")[0] + separator + cluster


def _printed_id(scheduler: Scheduler, stdout: str) -> str | None:
    """Return the job id that a submit command printed before it failed, if any."""
    with suppress(CommandError):
        return scheduler.parse_job_id(stdout)
    return None


def _earlier_ids(run: RunDirectory) -> list[str]:
    previous = run.read_submission()
    return [*previous.get("earlier_job_ids", []), *filter(None, [previous.get("job_id")])]
