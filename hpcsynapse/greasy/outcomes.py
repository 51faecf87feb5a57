"""How tasks ended, whatever ran them: from the records they left, or from what a log says."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcsynapse.files import read_json
from hpcsynapse.greasy.recorded import at_work, result_path
from hpcsynapse.greasy.tasks import Task, TaskList
from hpcsynapse.table import KEY, Column, column, columns
from hpcsynapse.units import counted
from hpcsynapse.writers import json_text, to_csv, to_text

STATES = ("ok", "failed", "killed", "lost", "interrupted", "cancelled", "running", "not-run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one line of a list; the fields, in this order, are the columns. None: not known."""

    line: int = column("line of the list", priority=KEY, always=True)
    state: str = column("how it ended: " + ", ".join(STATES), priority=KEY, always=True)
    exit_code: int | None = column("exit code", shown=False, default=None)
    signal: str | None = column("signal that ended it, without SIG", shown=False, default=None)
    host: str = column("host that it ran on", default="")
    attempts: int = column("tries", default=0)
    start: float | None = column("when it began, Unix time", shown=False, default=None)
    end: float | None = column("when it ended, Unix time", shown=False, default=None)
    seconds: float | None = column("time between them", default=None)
    reason: str = column("why it did not succeed, where that is known", shown=False, default="")
    command: str = column("what the line runs", shown=False, default="")

    @property
    def ok(self) -> bool:
        """Whether the task has certainly succeeded."""
        return self.state == "ok"

    @property
    def how(self) -> str:
        """Exit code or signal, for people."""
        if self.signal:
            return f"SIG{self.signal}"
        return "-" if self.exit_code is None else str(self.exit_code)

    @property
    def what(self) -> str:
        """Reason and command, for people."""
        return "; ".join(filter(None, (self.reason, self.command)))


COLUMNS = columns(Outcome)
_FOR_PEOPLE = {
    **COLUMNS,
    "how": Column(name="how", meaning="exit code or signal", head="end", always=True),
    "what": Column(name="what", meaning="reason and command", head="what", always=True),
}


_LARGEST = 1e12  # of a time or a count in a record


def from_record(task: Task, *, ended: bool = True) -> Outcome:
    """Return what a task's own record says; a record of a start without an end means that its script was killed.

    `ended` tells that nothing should be running any more; a line that holds its lock is running nevertheless.
    """
    path = result_path(task.command)
    record = read_json(path) if path else None
    if record is None:
        return Outcome(line=task.line, state="not-run", command=task.command)
    start, end, code = _number(record, "start"), _number(record, "end"), _number(record, "exit_code")
    signal, reason = record.get("signal"), str(record.get("reason", ""))
    if record.get("state") == "ended" and code is not None:
        state = "ok" if code == 0 else "killed" if signal else "failed"
    elif path and record.get("locked") is True and at_work(path):
        state, reason = "running", f"process {record.get('pid')} is at work there" if ended else reason
    elif ended or record.get("locked") is True:
        state, reason = "lost", reason or "its script was killed, or its node went away, before it could record an end"
    else:
        state = "running"
    return Outcome(
        line=task.line,
        state=state,
        exit_code=None if code is None else int(code),
        signal=signal,
        host=str(record.get("host", "")),
        attempts=int(_number(record, "attempt") or 1),
        start=start,
        end=end,
        seconds=round(end - start, 3) if start and end else None,
        reason=reason,
        command=task.command,
    )


def _number(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    return value if isinstance(value, (int, float)) and abs(value) < _LARGEST else None


def of_list(tasks: TaskList, *, ended: bool = True) -> list[Outcome]:
    """Return the outcome of every line from its record; what waits for a failed line was cancelled."""
    found: dict[int, Outcome] = {}
    for task in tasks.tasks:
        one = from_record(task, ended=ended)
        causes = [line for line in task.after if line in found and not found[line].ok]
        if one.state == "not-run" and causes and ended:
            one = dataclasses.replace(one, state="cancelled", reason=f"line {causes[0]} did not succeed")
        elif one.state == "not-run" and causes:
            one = dataclasses.replace(one, reason=f"waits for line {causes[0]}")
        found[task.line] = one
    return list(found.values())


def with_commands(outcomes: Iterable[Outcome], commands: Mapping[int, str]) -> list[Outcome]:
    """Return outcomes that name what the lines really ran instead of the script that recorded it."""
    return [dataclasses.replace(one, command=commands.get(one.line, one.command)) for one in outcomes]


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return one line of counts."""
    counts = Counter(one.state for one in outcomes)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return f"{counted(len(outcomes), 'task')}: {', '.join(parts) or 'nothing'}"


def as_text(outcomes: Sequence[Outcome]) -> str:
    """Return a table for people."""
    return to_text(outcomes, _FOR_PEOPLE)


def as_csv(outcomes: Iterable[Outcome]) -> str:
    """Return all columns as CSV."""
    return to_csv(outcomes, COLUMNS)


def as_json(outcomes: Iterable[Outcome], **more: Any) -> str:
    """Return an object with the outcomes under `tasks`."""
    return json_text({**more, "tasks": [dataclasses.asdict(one) for one in outcomes]})
