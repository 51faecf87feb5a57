"""Reads what Greasy leaves: its log, line by line, and its restart file, which is a task list itself.

The forms of both are those of Greasy 2.2.3 (`src/abstractschedulerengine.cpp`, `src/abstractengine.cpp`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.greasy.outcomes import Outcome
from hpcsynapse.greasy.tasks import TaskList, parse

_ENTRY = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]\s+(?:([A-Z]+):\s+)?(.*)")
_ALLOCATED = re.compile(r"Allocating task (\d+)")
_ENDED = re.compile(
    r"Task (\d+)(?: located in line (\d+))? (?:completed successfully|failed with exit code (-?\d+))"
    r" on node (.*?)\. Elapsed: (\d+):(\d\d):(\d\d)"
)
_RETRY = re.compile(r"Retry (\d+)/(\d+) of task (\d+)")
_CANCELLED = re.compile(r"Cancelling task (\d+) because of task (\d+) failure")
_INVALID = re.compile(r"Task (\d+) does not seem to be correct|Dependency \S+ of task (\d+) is not valid")
_SUMMARY = re.compile(r"Summary of (\d+) tasks: (\d+) OK, (\d+) FAILED, (\d+) CANCELLED, (\d+) INVALID")
_TOTAL = re.compile(r"Total time: (\d+):(\d\d):(\d\d)")
_USE = re.compile(r"Resource Utilization: ([\d.]+|-?nan|inf) ?%")
_RESTART_TASK = re.compile(r"Warning: Task (\d+) (failed|was cancelled)")
_RESTART_SOURCE = re.compile(r"Original task file: (.*)")
_RESTART_HEAD = "Greasy restart file generated at"


@dataclass(slots=True)
class _Seen:
    """What a log has said of one line so far."""

    state: str = "running"
    code: int | None = None
    host: str = ""
    attempts: int = 0
    start: float | None = None
    end: float | None = None
    seconds: float | None = None
    reason: str = ""


@dataclass(slots=True)
class GreasyLog:
    """A log as far as it goes: `counts` and what follows are missing when Greasy did not reach its end."""

    outcomes: list[Outcome] = field(default_factory=list)
    counts: dict[str, int] | None = None
    total_seconds: int | None = None
    utilization: float | None = None
    errors: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether Greasy has reached its end."""
        return self.counts is not None

    def facts(self) -> dict[str, Any]:
        """Return what the log says of the whole run."""
        return {"complete": self.complete, "counts": self.counts, "total_seconds": self.total_seconds,
                "utilization": self.utilization, "errors": self.errors}  # fmt: skip


def read_log(text: str, restart: Restart | None = None) -> GreasyLog:
    """Return what a log and a restart file say; raises SpecError when the text is no log of Greasy.

    The basic engine calls a task that a signal ended completed: the records of the tasks know better.
    """
    log, seen, entries = GreasyLog(), dict[int, _Seen](), 0
    for line in text.splitlines():
        if match := _ENTRY.match(line):
            entries += 1
            _take(log, seen, match[1], match[2] or "", match[3])
    if text.strip() and not entries:
        raise SpecError("this is not a log of Greasy: no line begins with [YYYY-MM-DD HH:MM:SS]")
    if restart is not None:
        for number, what in restart.warnings:
            state = "failed" if what == "failed" else "cancelled"
            one = seen.setdefault(number, _Seen(state=state))
            if one.state in ("ok", "running"):
                one.state, one.reason = state, "according to the restart file"
    log.outcomes = [
        Outcome(line=number, state="lost" if one.state == "running" and log.complete else one.state,
                exit_code=one.code, signal=None, host=one.host, attempts=one.attempts, start=one.start, end=one.end,
                seconds=one.seconds, reason=one.reason)
        for number, one in sorted(seen.items())
    ]  # fmt: skip
    return log


def _take(log: GreasyLog, seen: dict[int, _Seen], stamp: str, level: str, message: str) -> None:
    """Add one entry of the log."""
    if match := _ALLOCATED.match(message):
        one = seen.setdefault(int(match[1]), _Seen())
        one.attempts, one.state, one.start = one.attempts + 1, "running", _time(stamp)
    elif match := _ENDED.match(message):
        _end(seen.setdefault(int(match[2] or match[1]), _Seen()), match, stamp)
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
    elif level == "ERROR":
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
    except ValueError:
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
