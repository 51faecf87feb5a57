"""Telling the queue to end a run's job, and whether somebody has."""

from __future__ import annotations

from hpcsynapse.errors import CommandError
from hpcsynapse.files import read_json, write_atomic
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.schedulers import SCHEDULERS, create
from hpcsynapse.submission import commands
from hpcsynapse.submission.enqueue import CLOSED, settle
from hpcsynapse.submission.queries import job_id_of

_CANCEL_SECONDS = 60.0


def cancel_requested(run: RunDirectory) -> bool:
    """Tell whether somebody has cancelled a run since it was handed to its queue."""
    history = run.read_history()
    handed = [index for index, item in enumerate(history) if item["state"] == RunState.QUEUED]
    requests = [item["request"] for item in history[max(handed, default=0) :] if "request" in item]
    return requests[-1:] == ["cancel"]


def request_cancel(run: RunDirectory) -> None:
    """Tell the queue to end a run's job; raises CommandError with the queue's answer when it does not.

    An allocation that other runs of the study still need is left: the program that makes them there ends this one. A
    run of which it is not known whether the queue has it is closed: its job ends as soon as it starts.
    """
    settle([run])
    submission = run.read_submission()
    scheduler, job_id = str(submission.get("scheduler")), job_id_of(run, submission)
    known = scheduler in SCHEDULERS
    if not known or not (job_id or "unknown" in submission):
        raise CommandError(f"run {run.name} was never handed to a queue", command=[])
    before = (run.read_history() or [{"state": RunState.CREATED}])[-1]["state"]
    run.append_history(RunState.STOPPED, "cancel requested", request="cancel")  # first, for whoever watches
    if not job_id:
        write_atomic(run.owner, CLOSED + "\n")
        return
    if "allocation_nodes" in submission and _needed_by_others(run, job_id):
        return
    try:
        adapter = create(scheduler)
        command = adapter.cancel_command(job_id)
        commands.run_checked(command, timeout=_CANCEL_SECONDS, leave_out=adapter.query_without)
    except CommandError as error:
        run.append_history(before, f"not cancelled: {error}", request="refused")
        raise


def _needed_by_others(run: RunDirectory, job_id: str) -> bool:
    """Tell whether another run of the study waits or goes on in the same job."""
    for other in RunDirectory.all(run.path.parent):
        mine = other.read_submission().get("job_id") == job_id and other.path != run.path
        if mine and read_json(other.exit) is None and not cancel_requested(other):
            return True
    return False
