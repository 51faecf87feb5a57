"""The verdict on a run: a table of facts, read from the top; the first that holds decides.

The exit file is the truth once it is there, then comes what the queue says, then what the run itself last said.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from hpcsynapse.files import write_problem
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.runs.starts import why_not_again
from hpcsynapse.runs.states import FINAL_STATES, RunState
from hpcsynapse.schedulers.base import JobStatus, QueueState
from hpcsynapse.submission.cancel import cancel_requested
from hpcsynapse.submission.enqueue import CLOSED

_WORDS = {
    "TIMEOUT": "time limit reached",
    "NODE_FAIL": "a node failed",
    "OUT_OF_MEMORY": "out of memory",
    "PREEMPTED": "preempted: the queue took its nodes for a job of higher priority",
    "FAILED": "",
    "CANCELLED": "cancelled",
}
_ENDED_BY_THE_QUEUE = ("TIMEOUT", "CANCELLED", "PREEMPTED")
# As the signal in exit.json: of the local scheduler, which has no other memory; of a job that ended in its GraceTime.
_TOLD_BY_THE_SCRIPT = ("TIMEOUT", "PREEMPTED")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A run's state, why, and how it ended."""

    state: RunState
    reason: str = ""
    exit_code: int | None = None
    failure: dict[str, Any] = field(default_factory=dict)
    shows_progress: bool = True


@dataclass(frozen=True)
class KnownRun:
    """What is known of a run: `no_answer` is why its queue could not be asked, `job` what it says of the job."""

    run: RunDirectory
    submission: dict[str, Any]
    ended: dict[str, Any] | None
    job_id: str
    job: JobStatus | None
    no_answer: str
    progress: dict[str, Any]
    array_is_known: bool = False  # the queue has other tasks of the array that the job belongs to

    record_may_come: bool = False  # the queue records the ends of jobs a while later, and no longer lists this one

    @cached_property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled the run."""
        return cancel_requested(self.run)

    @property
    def preempted(self) -> bool:
        """Whether the run's last start ended because the queue wanted its nodes for another job."""
        return self.signal == "PREEMPTED"

    @property
    def shares(self) -> bool:
        """Whether other runs of its study use the same job."""
        return "allocation_nodes" in self.submission

    @property
    def has_an_owner(self) -> bool:
        """Whether a job has begun the run, whatever the command said that submitted it."""
        return self.run.owner_id() not in (None, CLOSED)

    @property
    def has_not_begun(self) -> bool:
        """Whether the run waits in an allocation that it shares, which may be at work for others."""
        return self.shares and self.ended is None and not self.progress

    @property
    def last_word_is_open(self) -> bool:
        """Whether an exit file is there that the queue may still overrule.

        The queue puts the job back, or decides only now what a script that was told to end, or failed, ended of: time
        limit, cancelled, a lost node, or queued once more. In a shared allocation it was the program there, which
        decides at once, except on SIGTERM.
        """
        if self.ended is None or self.job is None:
            return False
        if self.job.state == QueueState.QUEUED:
            return not self.shares
        if self.job.state not in (QueueState.RUNNING, QueueState.SUSPENDED):
            return False
        if self.shares:
            return self.signal == "TERM" and not self.cancelled
        return bool(self.signal) or self.ended.get("exit_code") != 0

    @property
    def signal(self) -> str:
        """Which signal told the job script to end while its program ran; TIMEOUT is the local scheduler's limit."""
        return str((self.ended or {}).get("signal") or "")

    @property
    def did_all(self) -> bool:
        """Whether a program that counts its steps has made all of them."""
        step, steps = self.progress.get("step"), self.progress.get("steps")
        return self.progress.get("state") == RunState.FINISHED and bool(steps) and step == steps

    def queue_says(self, *states: QueueState) -> bool:
        """Tell whether the queue knows the job and has it in one of these states."""
        return self.job is not None and self.job.state in states

    @property
    def native(self) -> str:
        """The queue's own word for the job's state."""
        return self.job.native_state if self.job else ""

    @property
    def detail(self) -> str:
        """The queue's own reason."""
        return self.job.reason if self.job else ""


class Rule(NamedTuple):
    """One row: the fact, where it is read, and the verdict when it holds."""

    fact: str
    source: str
    holds: Callable[[KnownRun], bool]
    verdict: Callable[[KnownRun], Verdict]


def judge(facts: KnownRun) -> Verdict:
    """Return the verdict of the first row whose fact holds."""
    return next(rule.verdict(facts) for rule in RULES if rule.holds(facts))


def _running(facts: KnownRun) -> Verdict:
    text = str(facts.progress.get("state", RunState.SETUP))
    state = RunState(text) if text in RunState.__members__ else RunState.TRAINING
    over = state in (RunState.FINISHED, RunState.STOPPED, RunState.FAILED)
    code = facts.ended.get("exit_code") if facts.ended else None
    reason = f"its script ended with exit code {code}; the queue has not ended the job yet" if code else ""
    return Verdict(RunState.FINISHING if over else state, reason)


def _last_known(facts: KnownRun) -> Verdict:
    """Return the last state that the run itself told, while the queue cannot say more.

    An end that only history tells, such as a cancel that was asked for, is not known to have come.
    """
    state = _running(facts).state if facts.progress else _last_of_history(facts)
    asked = "cancel requested; " if facts.cancelled else ""
    return Verdict(RunState.UNKNOWN if state in FINAL_STATES else state, asked + (facts.no_answer or facts.detail))


def _last_of_history(facts: KnownRun) -> RunState:
    last = str((facts.run.read_history() or [{"state": RunState.CREATED}])[-1]["state"])
    return RunState(last) if last in RunState.__members__ else RunState.UNKNOWN


def _ended(facts: KnownRun) -> Verdict:
    ended = facts.ended or {"exit_code": 0}  # without one the queue says COMPLETED: it is late, or the disk was full
    code = ended.get("exit_code")
    code = code if isinstance(code, int) else 1
    if code == 0:
        return _ended_well(facts)
    if facts.cancelled or facts.queue_says(QueueState.CANCELLED):
        return Verdict(RunState.STOPPED, "cancelled", code)
    failure = first_failure(facts.run, str(ended.get("attempt", "")))
    native = facts.native if facts.queue_says(QueueState.FAILED) else ""
    if facts.signal in _TOLD_BY_THE_SCRIPT:
        native = facts.signal
    reason = _reason(native, "", failure) or f"the job script ended with exit code {code}; see logs/job.log"
    reason = "; ".join(filter(None, (why_not_again(facts.run), reason)))
    disk = ended.get("disk")
    if isinstance(disk, str) and disk:  # the cause more often than not, and what kept the ranks from saying so
        reason = f"{reason}; its folder could not be written: {disk}"
    return Verdict(RunState.FAILED, reason, code, failure)


def _ended_well(facts: KnownRun) -> Verdict:
    state = facts.progress.get("state")
    if state != RunState.STOPPED and facts.signal and not facts.did_all:  # it saved, and ended as it was told to
        return Verdict(RunState.STOPPED, _end_that_was_told(facts), 0)
    if state != RunState.STOPPED:
        return Verdict(RunState.FINISHED, exit_code=0)
    reason = str(facts.progress.get("reason", ""))
    if facts.preempted:
        return Verdict(RunState.STOPPED, f"{_WORDS['PREEMPTED']}; {reason}", 0)
    if reason == "stop requested":  # who asked for it: a person, or the signal before the time limit
        with suppress(OSError):
            reason = facts.run.stop.read_text(errors="replace").strip()
    return Verdict(RunState.STOPPED, reason, 0)


def _end_that_was_told(facts: KnownRun) -> str:
    """Say who cut a job short whose program ended well: the queue's word, a cancel, or only that a signal came."""
    if facts.queue_says(QueueState.FAILED) and facts.native != QueueState.FAILED:
        return _reason(facts.native, "", {})
    if facts.cancelled or facts.queue_says(QueueState.CANCELLED):
        return "cancelled"
    return _WORDS.get(facts.signal, f"told to end by SIG{facts.signal}")


def _ended_in_the_queue(facts: KnownRun) -> Verdict:
    """Judge a job that ended before its script could say so."""
    failure = first_failure(facts.run)
    cause = failure if failure.get("by_itself") else {}
    reason = _reason(facts.native, facts.detail, cause)
    if facts.native == QueueState.FAILED and not cause:
        reason = f"the job script was killed; see logs/job.log{_disk(facts)}"
    state = RunState.STOPPED if facts.queue_says(QueueState.CANCELLED) else RunState.FAILED
    return Verdict(state, reason, failure=failure)


def _disk(facts: KnownRun) -> str:
    """Say why a job may have left no word, where that can be seen: its folder cannot be written."""
    problem = write_problem(facts.run.path)
    return f"; its folder cannot be written: {problem}" if problem else ""


def _reason(native: str, detail: str, failure: dict[str, Any]) -> str:
    # A cancelled job's detail is why it had waited; the others say nothing that the state does not.
    known = detail in ("NonZeroExitCode", "TimeLimit", native) or native == "CANCELLED"
    parts = [_WORDS.get(native, native.lower()), "" if known else detail]
    if failure and (failure["by_itself"] or native not in _ENDED_BY_THE_QUEUE):
        parts.append(f"rank {failure['rank']} on {failure['host']}: {failure['reason']}")
    return "; ".join(part for part in parts if part)


def _is(
    state: RunState, reason: str | Callable[[KnownRun], str] = "", progress: bool = True
) -> Callable[[KnownRun], Verdict]:
    def verdict(facts: KnownRun) -> Verdict:
        text = reason(facts) if callable(reason) else reason
        return Verdict(state, text, shows_progress=progress)

    return verdict


def _waits(facts: KnownRun) -> bool:
    waits = facts.queue_says(QueueState.QUEUED, QueueState.RUNNING, QueueState.SUSPENDED, QueueState.UNKNOWN)
    return facts.has_not_begun and (bool(facts.no_answer) or waits)


RULES = (
    Rule("the queue refused it", "submission.json", lambda one: "error" in one.submission and not one.has_an_owner,
         _is(RunState.FAILED, lambda one: f"not submitted: {one.submission['error']}")),
    Rule("cancelled before its turn", "history.jsonl", lambda one: one.has_not_begun and one.cancelled,
         _is(RunState.STOPPED, "cancelled", progress=False)),
    Rule("its turn has not come", "queue", _waits,
         _is(RunState.QUEUED, lambda one: one.no_answer or one.detail, progress=False)),
    Rule("the shared allocation is over", "queue", lambda one: one.has_not_begun and bool(one.job_id),
         _is(RunState.STOPPED, "the allocation ended before its turn came", progress=False)),
    Rule("it has ended", "exit.json", lambda one: one.ended is not None and not one.last_word_is_open, _ended),
    Rule("it waits to go on", "queue", lambda one: one.preempted and one.queue_says(QueueState.QUEUED),
         _is(RunState.PREEMPTED, lambda one: f"it will go on; {one.detail}")),
    Rule("it waits", "queue", lambda one: one.queue_says(QueueState.QUEUED),
         _is(RunState.QUEUED, lambda one: one.detail)),
    Rule("it is suspended", "queue", lambda one: one.queue_says(QueueState.SUSPENDED),
         _is(RunState.SUSPENDED, lambda one: one.detail)),
    Rule("it runs", "queue", lambda one: one.queue_says(QueueState.RUNNING), _running),
    Rule("the queue gives no answer", "status.json", lambda one: bool(one.job_id) and bool(one.no_answer), _last_known),
    Rule("the queue's word is not known", "status.json", lambda one: one.queue_says(QueueState.UNKNOWN), _last_known),
    Rule("it is complete", "queue", lambda one: one.queue_says(QueueState.COMPLETED), _ended),
    Rule("its job has ended", "queue", lambda one: one.job is not None, _ended_in_the_queue),
    Rule("cancelled", "history.jsonl", lambda one: one.cancelled, _is(RunState.STOPPED, "cancelled")),
    Rule("the queue may have it", "submission.json", lambda one: "unknown" in one.submission and not one.job_id,
         _is(RunState.UNKNOWN, lambda one: f"may have been submitted: {one.submission['unknown']}")),
    Rule("no queue ever had it", "submission.json", lambda one: not one.job_id,
         _is(RunState.CREATED, "never handed to a queue")),
    Rule("its array goes on without it", "queue", lambda one: one.array_is_known and one.run.owner_id() is None,
         _is(RunState.STOPPED, "cancelled in the queue before it began")),  # Slurm keeps no record of such a task
    Rule("its end is not on record yet", "queue", lambda one: one.record_may_come,
         _is(RunState.UNKNOWN, "the queue no longer lists the job, and has not recorded yet how it ended")),
    Rule("nobody knows of it", "queue", lambda one: True,
         _is(RunState.LOST, lambda one: f"the queue no longer knows the job and it left no exit file{_disk(one)}")),
)  # fmt: skip  # a table
