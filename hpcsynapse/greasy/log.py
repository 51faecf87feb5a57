"""Reads what Greasy leaves: its log, line by line, and its restart file, which is a task list itself.

The forms of both are those of Greasy 2.2.3 (`src/abstractschedulerengine.cpp`, `src/abstractengine.cpp`).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.greasy.outcomes import Outcome
from hpcsynapse.greasy.tasks import TaskList, parse

_ENTRY = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]\s+(?:([A-Z]+):\s+)?(.*)")
_BEGIN, _FINISHED, _INTERRUPTED = "Start greasing ", "Finished greasing ", "Greasy was interrupted"


def _form(text: str) -> re.Pattern[str]:
    """Return the pattern of a message; `#` is a number, of at most nine digits: others no Greasy has written."""
    return re.compile(text.replace("#", "([0-9]{1,9})(?![0-9])"))


# The basic engine says "Allocating task LINE", the mpi engine "Allocating task N located in line LINE to Worker W".
_ALLOCATED = _form(r"Allocating task #(?: located in line # to Worker [0-9]+)?")
_ENDED = _form(
    r"Task #(?: located in line #)? (?:completed successfully|failed with exit code (-?[0-9]{1,9}))"
    r" on node (.*?)\. Elapsed: #:([0-9]{2}):([0-9]{2})"
)
_RETRY = _form(r"Retry #/# of task #")
_CANCELLED = _form(r"Cancelling task # because of task # failure")
_INVALID = _form(r"Task # does not seem to be correct|Dependency \S+ of task # is not valid")
_SUMMARY = _form(r"Summary of # tasks: # OK, # FAILED, # CANCELLED, # INVALID")
_TOTAL = _form(r"Total time: #:([0-9]{2}):([0-9]{2})")
_USE = _form(r"Resource Utilization: ([0-9]{1,9}(?:\.[0-9]{0,9})?|-?nan|inf) ?%")
_RESTART_TASK = _form(r"Warning: Task # (failed|was cancelled)")
_RESTART_SOURCE = re.compile(r"Original task file: (.*)")
_RESTART_HEAD = "Greasy restart file generated at"


@dataclass(slots=True)
class _Seen:
    """What a log has said of one line so far."""

    state: str = "running"
    code: int | None = None
    signal: str | None = None
    host: str = ""
    attempts: int = 0
    start: float | None = None
    end: float | None = None
    seconds: float | None = None
    reason: str = ""


@dataclass(slots=True)
class GreasyLog:
    """The last run of a log, as far as it goes: `counts` and what follows are missing where the log does not tell."""

    outcomes: list[Outcome] = field(default_factory=list)
    counts: dict[str, int] | None = None
    total_seconds: int | None = None
    utilization: float | None = None
    errors: list[str] = field(default_factory=list)
    finished: bool = False
    interrupted: bool = False
    raw_codes: bool = False

    @property
    def complete(self) -> bool:
        """Whether Greasy has reached its end."""
        return self.finished or self.counts is not None

    @property
    def remark(self) -> str:
        """What a reader of the outcomes has to know, or nothing."""
        if self.interrupted:
            return "Greasy was interrupted"
        if not self.complete:
            return "the log ends before Greasy did"
        return "" if self.counts else "Greasy finished, but its log level leaves out what succeeded"

    def of_the_run(self) -> dict[str, Any]:
        """Return what the log says of the run of the list as a whole, for JSON."""
        return {
            "complete": self.complete,
            "interrupted": self.interrupted,
            "counts": self.counts,
            "total_seconds": self.total_seconds,
            "utilization": self.utilization,
            "errors": self.errors,
        }


def read_log(text: str, restart: Restart | None = None) -> GreasyLog:
    """Return what a log and a restart file say of the last run; raises SpecError when the text is no log of Greasy.

    The basic engine calls a task that a signal ended completed: the records of the tasks know better.
    """
    entries = [match for line in text.splitlines() if (match := _ENTRY.match(line))]
    if text.strip() and not entries:
        raise SpecError("this is not a log of Greasy: no line begins with [YYYY-MM-DD HH:MM:SS]")
    begin = max((at for at, entry in enumerate(entries) if entry[3].startswith(_BEGIN)), default=0)  # it appends
    log, seen = GreasyLog(), dict[int, _Seen]()
    for entry in entries[begin:]:
        _take(log, seen, entry[1], entry[2] or "", entry[3])
    if restart is not None:
        _take_restart(seen, restart)
    log.outcomes = [_outcome(log, number, one) for number, one in sorted(seen.items())]
    return log


def _take_restart(seen: dict[int, _Seen], restart: Restart) -> None:
    for number, what in restart.warnings:
        state = "failed" if what == "failed" else "cancelled"
        one = seen.setdefault(number, _Seen(state=state))
        if one.state in ("ok", "running"):
            one.state, one.reason = state, "according to the restart file"


def _outcome(log: GreasyLog, number: int, one: _Seen) -> Outcome:
    state, reason = one.state, one.reason
    if state == "running" and log.interrupted:
        state, reason = "interrupted", "it ran when Greasy was interrupted"
    elif state == "running" and log.complete:
        state = "lost"
    if one.code and log.raw_codes:
        one.code, one.signal = _decode(one.code)
        state = "killed" if one.signal and state == "failed" else state
    return Outcome(
        line=number,
        state=state,
        exit_code=one.code,
        signal=one.signal,
        host=one.host,
        attempts=one.attempts,
        start=one.start,
        end=one.end,
        seconds=one.seconds,
        reason=reason,
    )


def _decode(status: int) -> tuple[int, str | None]:
    """Return exit code and signal of what wait(2) has returned, which the mpi engine takes for the exit code."""
    if not 0 < status < 0x10000 or status & 0x7F == 0:
        return (status >> 8 if status > 0 else status), None
    try:
        return 128 + (status & 0x7F), signal.Signals(status & 0x7F).name.removeprefix("SIG")
    except ValueError:
        return status, None


def _take(log: GreasyLog, seen: dict[int, _Seen], stamp: str, level: str, message: str) -> None:
    """Add one entry of the log."""
    if match := _ALLOCATED.match(message):
        log.raw_codes = log.raw_codes or match[2] is not None
        one = seen.setdefault(int(match[2] or match[1]), _Seen())
        one.attempts, one.state, one.start = one.attempts + 1, "running", _time(stamp)
    elif match := _ENDED.match(message):
        _end(seen.setdefault(int(match[2] or match[1]), _Seen()), match, stamp)
        log.raw_codes = log.raw_codes or int(match[3] or 0) > 255  # the log level may leave out who allocates
    elif match := _RETRY.match(message):
        seen.setdefault(int(match[3]), _Seen()).state = "running"
    elif match := _CANCELLED.match(message):
        one = seen.setdefault(int(match[1]), _Seen())
        one.state, one.reason = "cancelled", f"line {match[2]} did not succeed"
    elif match := _INVALID.match(message):
        one = seen.setdefault(int(match[1] or match[2]), _Seen())
        one.state, one.reason = "not-run", message
    elif match := _SUMMARY.match(message):
        names = ("tasks", "ok", "failed", "cancelled", "invalid")
        log.counts = dict(zip(names, map(int, match.groups()), strict=True))
    elif match := _TOTAL.match(message):
        log.total_seconds = _seconds(match.groups())
    elif match := _USE.match(message):
        log.utilization = None if "n" in match[1] else float(match[1])
    elif message.startswith(_FINISHED):
        log.finished = True
    elif level == "ERROR":
        log.interrupted = log.interrupted or message.startswith(_INTERRUPTED)
        log.errors.append(message)


def _end(one: _Seen, match: re.Match[str], stamp: str) -> None:
    one.code = int(match[3]) if match[3] is not None else 0
    one.state = "ok" if match[3] is None else "failed"
    one.host, one.end, one.seconds = match[4], _time(stamp), float(_seconds(match.groups()[4:7]))
    one.attempts = max(one.attempts, 1)


def _seconds(parts: Iterable[str]) -> int:
    hours, minutes, seconds = (int(part) for part in parts)
    return hours * 3600 + minutes * 60 + seconds


@lru_cache(maxsize=64)
def _time(stamp: str) -> float | None:
    try:
        return datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").astimezone().timestamp()
    except (ValueError, OverflowError):  # before the first year that a clock can have here
        return None


@dataclass(frozen=True, slots=True)
class Restart:
    """A restart file: the list of what is left to do, and which lines of the original failed or were cancelled."""

    tasks: TaskList
    source: str
    warnings: tuple[tuple[int, str], ...]


def read_restart(text: str) -> Restart:
    """Return what a restart file holds; raises SpecError when it is none."""
    tasks, _ = parse(text)
    comments = [comment for _, comment in tasks.comments]
    if not any(comment.startswith(_RESTART_HEAD) for comment in comments[:4]):
        raise SpecError(f"this is not a restart file of Greasy: its head does not say {_RESTART_HEAD!r}")
    source = next((match[1] for comment in comments if (match := _RESTART_SOURCE.match(comment))), "")
    warnings = [(int(match[1]), match[2]) for comment in comments if (match := _RESTART_TASK.match(comment))]
    return Restart(tasks, source, tuple(warnings))
