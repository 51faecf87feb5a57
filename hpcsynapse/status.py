"""What state runs are in: exit file first, then one batched question to each queue, then the training's own word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from hpcsynapse import process, records
from hpcsynapse.errors import CommandError, HpcSynapseError
from hpcsynapse.failure import first_failure
from hpcsynapse.rundir import RunDirectory, read_json
from hpcsynapse.schedulers import SCHEDULERS, create
from hpcsynapse.schedulers.base import JobStatus

_QUERY_SECONDS = 30.0
_NUMBERS = ("step", "steps", "epoch", "epochs", "samples_per_s", "loss", "eta_s", "lr")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run's state with what is known of it; `progress` is the training's own latest report."""

    name: str
    path: str
    state: str
    reason: str = ""
    scheduler: str = ""
    job_id: str = ""
    native_state: str = ""
    nodes: str = ""
    exit_code: int | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


Answers = dict[str, dict[str, JobStatus] | CommandError]


def statuses(runs: Sequence[RunDirectory], answers: Answers | None = None) -> list[RunStatus]:
    """Return the state of every run, by what its queue answered earlier or else by asking it now."""
    answers = ask_queues(runs) if answers is None else answers
    # The exit file is read after the queue was asked: a job may have ended in between.
    return [_judge(run, read_json(run.submission) or {}, read_json(run.exit), answers) for run in runs]


def ask_queues(runs: Sequence[RunDirectory]) -> Answers:
    """Ask each queue once for all of these runs that may not have ended."""
    open_jobs: dict[str, list[str]] = {}
    for run in runs:
        submission, ended = read_json(run.submission) or {}, read_json(run.exit) or {}
        scheduler, job_id = submission.get("scheduler"), submission.get("job_id")
        finished = ended.get("exit_code") == 0 and not ended.get("signal")
        if isinstance(scheduler, str) and scheduler in SCHEDULERS and isinstance(job_id, str) and not finished:
            open_jobs.setdefault(str(scheduler), []).append(job_id)
    return {scheduler: ask_queue(scheduler, job_ids) for scheduler, job_ids in open_jobs.items()}


def ask_queue(scheduler: str, job_ids: Sequence[str]) -> dict[str, JobStatus] | CommandError:
    """Return the jobs that the queue knows, or the error that kept it from answering."""
    adapter = create(scheduler)
    try:
        done = process.run(adapter.status_command(job_ids), timeout=_QUERY_SECONDS)
        if done.code and not adapter.unknown_jobs(done.code, done.stderr):
            message = f"{scheduler} does not answer: {done.stderr.strip() or f'exit code {done.code}'}"
            return CommandError(message, command=adapter.status_command(job_ids))
        known = adapter.parse_status(done.stdout)
        missing = [job_id for job_id in job_ids if job_id not in known]
        history = adapter.history_command(missing) if missing else None
        if history:
            with suppress(CommandError):  # accounting is absent at many sites
                past = process.run(history, timeout=_QUERY_SECONDS)
                known.update({} if past.code else adapter.parse_status(past.stdout))
    except CommandError as error:
        return error
    return known


def _judge(
    run: RunDirectory, submission: dict[str, Any], ended: dict[str, Any] | None,
    answers: Answers,
) -> RunStatus:  # fmt: skip
    scheduler, job_id = str(submission.get("scheduler", "")), str(submission.get("job_id", ""))
    answer = answers.get(scheduler, {})
    job = None if isinstance(answer, CommandError) else answer.get(job_id)
    progress = _progress(run)
    facts: dict[str, Any] = {
        "name": run.name, "path": str(run.path), "scheduler": scheduler, "job_id": job_id,
        "native_state": job.native_state if job else "", "nodes": job.nodes if job else "",
    }  # fmt: skip
    if "error" in submission:
        return RunStatus(**facts, state="FAILED", reason=f"not submitted: {submission['error']}")
    shares = "allocation_nodes" in submission  # others of its study use the job too
    if shares and ended is None and not progress:
        return _waiting(run, facts, job, answer)
    requeued = job is not None and job.state == "QUEUED" and not shares
    # The queue told the script to end, and decides only now: time limit, cancelled, or queued once more. In a shared
    # allocation it was the program there, which decides at once: SIGTERM is not its last word, unless on request.
    undecided = job is not None and job.state == "RUNNING" and ended is not None and bool(ended.get("signal"))
    if undecided and shares and ended is not None:
        undecided = ended["signal"] == "TERM" and not cancel_requested(run)
    if ended is not None and not requeued and not undecided:
        return _ended(run, facts, ended, job, progress)
    if job is not None and job.state in ("QUEUED", "RUNNING"):
        state = "QUEUED" if job.state == "QUEUED" else _running_state(progress)
        return RunStatus(**facts, state=state, reason=job.reason if state == "QUEUED" else "", progress=progress)
    if isinstance(answer, CommandError) or (job is not None and job.state == "UNKNOWN"):
        last = (run.read_history() or [{"state": "CREATED"}])[-1]["state"]
        reason = str(answer) if isinstance(answer, CommandError) else (job.reason if job else "")
        return RunStatus(**facts, state=_running_state(progress) if progress else last, reason=reason,
                         progress=progress)  # fmt: skip
    if job is not None and job.state == "COMPLETED":  # exit.json is late, or the file system was full
        return _ended(run, facts, {"exit_code": 0}, job, progress)
    if job is not None:  # ended in the queue before the job script could say so
        state = "STOPPED" if job.state == "CANCELLED" else "FAILED"
        failure = first_failure(run)
        cause = failure if failure.get("by_itself") else {}
        reason = _reason(job.native_state, job.reason, cause)
        if job.native_state == "FAILED" and not cause:
            reason = "the job script was killed; see logs/job.log"
        return RunStatus(**facts, state=state, reason=reason, progress=progress, failure=failure)
    if not job_id:
        return RunStatus(**facts, state="CREATED", reason="never handed to a queue", progress=progress)
    if cancel_requested(run):
        return RunStatus(**facts, state="STOPPED", reason="cancelled", progress=progress)
    return RunStatus(**facts, state="LOST", reason="the queue no longer knows the job and it left no exit file",
                     progress=progress)  # fmt: skip


def _waiting(
    run: RunDirectory, facts: dict[str, Any], job: JobStatus | None, answer: dict[str, JobStatus] | CommandError
) -> RunStatus:  # fmt: skip
    """Judge a run that has not begun in the allocation that it shares."""
    if cancel_requested(run):
        return RunStatus(**facts, state="STOPPED", reason="cancelled")
    if isinstance(answer, CommandError) or (job is not None and job.state in ("QUEUED", "RUNNING", "UNKNOWN")):
        reason = str(answer) if isinstance(answer, CommandError) else job.reason if job else ""
        return RunStatus(**facts, state="QUEUED", reason=reason)
    return RunStatus(**facts, state="STOPPED", reason="the allocation ended before its turn came")


def _running_state(progress: dict[str, Any]) -> str:
    state = str(progress.get("state", "SETUP"))
    return "SAVING" if state in ("FINISHED", "STOPPED", "FAILED") else state  # the job script is still tidying up


def _ended(
    run: RunDirectory, facts: dict[str, Any], ended: dict[str, Any], job: JobStatus | None, progress: dict[str, Any]
) -> RunStatus:  # fmt: skip
    code = ended.get("exit_code")
    code = code if isinstance(code, int) else 1
    if code == 0:
        state = "STOPPED" if progress.get("state") == "STOPPED" else "FINISHED"
        reason = str(progress.get("reason", "")) if state == "STOPPED" else ""
        with suppress(OSError):  # who asked for the stop: a person, or the signal before the time limit
            reason = run.stop.read_text(errors="replace").strip() if reason == "stop requested" else reason
        return RunStatus(**facts, state=state, reason=reason, exit_code=0, progress=progress)
    if cancel_requested(run) or (job is not None and job.state == "CANCELLED"):
        return RunStatus(**facts, state="STOPPED", reason="cancelled", exit_code=code, progress=progress)
    failure = first_failure(run, str(ended.get("attempt", "")))
    native = job.native_state if job is not None and job.state == "FAILED" else ""
    if ended.get("signal") == "TIMEOUT":  # of the local scheduler, which has no other memory
        native = "TIMEOUT"
    reason = _reason(native, "", failure) or f"the job script ended with exit code {code}; see logs/job.log"
    return RunStatus(**facts, state="FAILED", reason=reason, exit_code=code, progress=progress, failure=failure)


def _reason(native: str, detail: str, failure: dict[str, Any]) -> str:
    words = {"TIMEOUT": "time limit reached", "NODE_FAIL": "a node failed", "OUT_OF_MEMORY": "out of memory",
             "FAILED": "", "CANCELLED": "cancelled"}  # fmt: skip
    # A cancelled job's detail is why it had waited; the others say nothing that the state does not.
    known = detail in ("NonZeroExitCode", "TimeLimit", native) or native == "CANCELLED"
    parts = [words.get(native, native.lower()), "" if known else detail]
    if failure and (failure["by_itself"] or native not in ("TIMEOUT", "CANCELLED")):
        parts.append(f"rank {failure['rank']} on {failure['host']}: {failure['reason']}")
    return "; ".join(part for part in parts if part)


def cancel_requested(run: RunDirectory) -> bool:
    """Tell whether somebody has cancelled a run since it was handed to its queue."""
    history = run.read_history()
    queued = max((index for index, item in enumerate(history) if item["state"] == "QUEUED"), default=0)
    requests = [item["request"] for item in history[queued:] if "request" in item]
    return requests[-1:] == ["cancel"]


def _progress(run: RunDirectory) -> dict[str, Any]:
    """Return the training's latest report; a user's own program has its steps read from its records."""
    report = {key: value for key, value in (read_json(run.status) or {}).items() if _sound(key, value)}
    if "step" not in report and report.get("state"):
        with suppress(HpcSynapseError):
            last = records.last_record(run.timings)
            if last:
                read = {"step": last["step"] + 1, "epoch": last["epoch"], "loss": last["loss"]}
                report |= {key: value for key, value in read.items() if _sound(key, value)}
    return report


def _sound(key: str, value: object) -> bool:
    """Tell whether an entry of a status file is of its kind: another program, or an editor, may have written it."""
    if key in _NUMBERS:
        return value is None or (isinstance(value, (int, float)) and math.isfinite(value))
    return key not in ("state", "reason") or isinstance(value, str)


def request_cancel(run: RunDirectory) -> None:
    """Tell the queue to end a run's job; raises CommandError with the queue's answer when it does not.

    An allocation that other runs of the study still need is left: the program that makes them there ends this one.
    """
    submission = read_json(run.submission) or {}
    if not submission.get("job_id") or str(submission.get("scheduler")) not in SCHEDULERS:
        raise CommandError(f"run {run.name} was never handed to a queue", command=[])
    before = (run.read_history() or [{"state": "CREATED"}])[-1]["state"]
    run.append_history("STOPPED", "cancel requested", request="cancel")  # first, so that whoever watches knows why
    if "allocation_nodes" in submission and _needed_by_others(run, str(submission["job_id"])):
        return
    try:
        process.run_checked(create(submission["scheduler"]).cancel_command(str(submission["job_id"])), timeout=60)
    except CommandError as error:
        run.append_history(before, f"not cancelled: {error}", request="refused")
        raise


def _needed_by_others(run: RunDirectory, job_id: str) -> bool:
    """Tell whether another run of the study waits or goes on in the same job."""
    for other in RunDirectory.all(run.path.parent):
        mine = (read_json(other.submission) or {}).get("job_id") == job_id and other.path != run.path
        if mine and read_json(other.exit) is None and not cancel_requested(other):
            return True
    return False
