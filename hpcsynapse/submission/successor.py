"""A run is queued again from inside its own job, which ends then: once, and never against a person's word."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from hpcsynapse.errors import SpecError
from hpcsynapse.files import is_there
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.runs.suspects import Suspect, suspects
from hpcsynapse.schedulers import create
from hpcsynapse.schedulers.base import Scheduler
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission import commands
from hpcsynapse.submission.cancel import cancel_requested, request_cancel
from hpcsynapse.submission.enqueue import enqueue, fate_is_unknown
from hpcsynapse.submission.queries import job_id_of
from hpcsynapse.submission.submit import alone, leaving_out, write_job_file

_SECONDS = 60.0


def queue_again(run: RunDirectory, why: str, same_job: bool) -> str:
    """Queue a run again from inside its job and return the job that goes on with it.

    It is the `same_job` where that is wanted, the queue puts jobs back and no host is to be left out, else one that
    waits for the end of this one. Raises SpecError when the run was cancelled or asked to stop, SubmitError when the
    queue refuses or does not answer.
    """
    with alone(run):
        submission, known = run.read_submission(), len(run.read_history())
        job_id = job_id_of(run, submission)
        if cancel_requested(run) or _was_stopped(run):
            raise SpecError("it was cancelled or asked to stop")
        if fate_is_unknown(run) or not job_id:
            raise SpecError("which job the run has is not known")
        if "allocation_nodes" in submission:
            raise SpecError("its job is shared with other runs of a study")
        spec = run.load_spec()
        scheduler = create(spec.queue.scheduler)
        left_out = suspects(run) if spec.queue.exclude_failed else []
        same_job = same_job or "task" in submission  # a task of an array has no number that another job could have
        if same_job and not left_out and _put_back(scheduler, job_id):
            run.append_history(RunState.QUEUED, why, job_id=job_id)
            return job_id
        if "task" in submission:
            raise SpecError("it is a task of a job array, which cannot be followed by another job")
        new = _submit(run, spec, scheduler, job_id, left_out)
    if any(item.get("request") == "cancel" for item in run.read_history()[known:]):  # of this job, at this moment
        request_cancel(run)
        raise SpecError("it was cancelled")
    return new


def _was_stopped(run: RunDirectory) -> bool:
    """Tell whether a person has asked the run to stop; the signal before the time limit is no such wish."""
    try:
        return not run.stop.read_text(errors="replace").startswith("signal ")
    except OSError:
        return is_there(run.stop)


def _put_back(scheduler: Scheduler, job_id: str) -> bool:
    command = scheduler.requeue_command(job_id)
    if command is None or shutil.which(command[0]) is None:
        return False
    return commands.run(command, timeout=_SECONDS, leave_out=scheduler.query_without).code == 0


def _submit(run: RunDirectory, spec: JobSpec, scheduler: Scheduler, job_id: str, left_out: Sequence[Suspect]) -> str:
    script = run.job_script(scheduler.job_file)
    if spec.queue.exclude_failed:
        write_job_file(run, leaving_out(spec, left_out))
    try:
        scheduler.after_options(job_id)
        after: str | None = job_id
    except SpecError:  # a queue whose jobs do not wait for one another: this job does nothing more
        after = None
    return enqueue([run], spec, script, after).job_ids[0]
