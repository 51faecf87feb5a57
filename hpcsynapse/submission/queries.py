"""What queues say of jobs: one question to each queue for all runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from hpcsynapse.errors import CommandError
from hpcsynapse.files import read_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers import SCHEDULERS, create
from hpcsynapse.schedulers.base import JobStatus
from hpcsynapse.submission import commands
from hpcsynapse.submission.enqueue import settle

_QUERY_SECONDS = 30.0
_REMEMBERED = 300.0  # seconds for which queues keep a job that has ended, and may run it again (slurm.conf, MinJobAge)


class Known(dict[str, JobStatus]):
    """The jobs that a queue knows, of those that it was asked for: another job may since have taken a run up."""

    def __init__(self, jobs: Mapping[str, JobStatus], asked: Iterable[str]) -> None:
        super().__init__(jobs)
        self.asked = frozenset(asked)

    def with_others(self, other: Known) -> Known:
        """Return both answers as one, of which the other is newer."""
        return Known({**self, **other}, self.asked | other.asked)


# By scheduler: the jobs it knows, or the error that kept it from answering.
Answers = dict[str, dict[str, JobStatus] | CommandError]


def job_id_of(run: RunDirectory, submission: dict[str, Any]) -> str:
    """Return the job of a run: the one that has claimed it where that is another than the queue's answer named."""
    named, owner = str(submission.get("job_id") or ""), run.owner_id()
    if owner is None or submission.get("scheduler") not in SCHEDULERS:
        return named
    adapter = create(str(submission["scheduler"]))
    own = adapter.owner_id(owner)
    return named if named and adapter.owner_id(named) == own else (own if adapter.is_job_id(own) else named)


def ask_queues(runs: Sequence[RunDirectory]) -> Answers:
    """Ask each queue once for all of these runs that may not have ended, and look for those of unknown fate."""
    settle(runs)
    open_jobs: dict[str, list[str]] = {}
    for run in runs:
        submission, ended = run.read_submission(), read_json(run.exit) or {}
        scheduler, job_id = submission.get("scheduler"), job_id_of(run, submission)
        finished = ended.get("exit_code") == 0 and not ended.get("signal") and not _just_now(ended)
        if isinstance(scheduler, str) and scheduler in SCHEDULERS and job_id and not finished:
            open_jobs.setdefault(scheduler, []).append(job_id)
    return {scheduler: ask_queue(scheduler, job_ids) for scheduler, job_ids in open_jobs.items()}


def _just_now(ended: dict[str, Any]) -> bool:
    """Tell whether a job ended so recently that its queue may be starting it again (`scontrol requeue`)."""
    when = ended.get("time")
    return isinstance(when, (int, float)) and abs(time.time() - when) < _REMEMBERED


def ask_queue(scheduler: str, job_ids: Sequence[str]) -> Known | CommandError:
    """Return the jobs that the queue knows, or the error that kept it from answering."""
    known: dict[str, JobStatus] = {}
    try:
        for batch in create(scheduler).batches(list(dict.fromkeys(job_ids))):
            known.update(_ask(scheduler, batch))
    except CommandError as error:
        return error
    return Known(known, job_ids)


def _ask(scheduler: str, job_ids: Sequence[str]) -> dict[str, JobStatus]:
    adapter = create(scheduler)
    command = adapter.status_command(job_ids)
    done = commands.run(command, timeout=_QUERY_SECONDS, leave_out=adapter.query_without)
    if done.code and not adapter.unknown_jobs(done.code, done.stderr):
        message = f"{scheduler} does not answer: {done.stderr.strip() or f'exit code {done.code}'}"
        raise CommandError(message, command=command)
    known = {} if done.code else adapter.parse_status(done.stdout)
    missing = [job_id for job_id in job_ids if job_id not in known]
    history = adapter.history_command(missing) if missing else None
    if history:
        with suppress(CommandError):  # accounting is absent at many sites
            past = commands.run(history, timeout=_QUERY_SECONDS, leave_out=adapter.query_without)
            known.update({} if past.code else adapter.parse_status(past.stdout))
    return known
