"""How tasks ended, whatever ran them: from the records they left, or from what a log says."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcsynapse.greasy.recorded import result_path
from hpcsynapse.greasy.tasks import Task, TaskList
from hpcsynapse.rundir import read_json

STATES = ("ok", "failed", "killed", "lost", "cancelled", "running", "not-run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one line of a list; `start` and `end` are Unix times, `seconds` lie between them."""

    line: int
    state: str
    exit_code: int | None = None
    signal: str | None = None
    host: str = ""
    attempts: int = 0
    start: float | None = None
    end: float | None = None
    seconds: float | None = None
    reason: str = ""
    command: str = ""

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


COLUMNS = tuple(item.name for item in dataclasses.fields(Outcome))


def from_record(task: Task, *, ended: bool = True) -> Outcome:
    """Return what a task's own record says; a record of a start without an end means that its script was killed.

    `ended` tells that nothing can be running any more.
    """
    path = result_path(task.command)
    record = read_json(path) if path else None
    if record is None:
        return Outcome(line=task.line, state="not-run", command=task.command)
    start, end, code = _number(record, "start"), _number(record, "end"), _number(record, "exit_code")
    signal, reason = record.get("signal"), str(record.get("reason", ""))
    if record.get("state") == "ended" and code is not None:
        state = "ok" if code == 0 else "killed" if signal else "failed"
    elif ended:
        state, reason = "lost", reason or "its script was killed, or its node went away, before it could record an end"
    else:
        state = "running"
    return Outcome(
        line=task.line, state=state, exit_code=None if code is None else int(code), signal=signal,
        host=str(record.get("host", "")), attempts=int(_number(record, "attempt") or 1), start=start, end=end,
        seconds=round(end - start, 3) if start and end else None, reason=reason, command=task.command,
    )  # fmt: skip


def _number(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    return value if isinstance(value, (int, float)) else None


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
    return f"{len(outcomes)} tasks: {', '.join(parts) or 'nothing'}"


def as_text(outcomes: Iterable[Outcome]) -> str:
    """Return a table for people."""
    rows = [("line", "state", "end", "host", "attempts", "seconds", "what")]
    for one in outcomes:
        seconds = "-" if one.seconds is None else f"{one.seconds:.1f}"
        what = "; ".join(filter(None, (one.reason, one.command)))
        rows.append((str(one.line), one.state, one.how, one.host or "-", str(one.attempts), seconds, what))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
             for row in rows)  # fmt: skip
    return "".join(line.rstrip() + "\n" for line in lines)


def as_csv(outcomes: Iterable[Outcome]) -> str:
    """Return all columns as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(one, name) for name in COLUMNS] for one in outcomes)
    return text.getvalue()


def as_json(outcomes: Iterable[Outcome], **more: Any) -> str:
    """Return an object with the outcomes under `tasks`."""
    rows = [dataclasses.asdict(one) for one in outcomes]
    return json.dumps({**more, "tasks": rows}, indent=1) + "\n"
