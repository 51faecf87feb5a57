"""The table of `hpcsynapse status`: one line a run, or a study."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from textwrap import shorten

from hpcsynapse.cli import progress
from hpcsynapse.cli.terminal import coloured, state_colour
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import FINAL_STATES, RunState
from hpcsynapse.study.folder import name_of
from hpcsynapse.submission.status import RunStatus

HEADINGS = ("RUN", "JOB", "NODES", "STATE", "SINCE", "DONE", "LEFT", "EPOCH", "STEP", "RATE", "LOSS", "ACCURACY")
_RIGHT = ("JOB", "DONE", "LEFT", "EPOCH", "STEP", "RATE", "LOSS", "ACCURACY")
_DROPPED = ("ACCURACY", "STEP", "LOSS", "EPOCH", "RATE")  # in this order, where a terminal has no room
_FREE = HEADINGS.index("DONE")  # from here on a line may hold a text instead, or behind the last column
_INDENT = "    "  # of a text for which there is no room in the line
_LONGEST_NAME = 24  # characters of a name on a terminal


@dataclass(frozen=True, slots=True)
class Line:
    """A run or study: its cells by heading, a text in place of progress or behind it, and what it is sorted by."""

    cells: dict[str, str]
    text: str
    state: str
    order: tuple[int, float]


def run_line(run: RunDirectory, status: RunStatus) -> Line:
    """Return the line of a run."""
    told = status.progress
    metrics = told.get("metrics")
    accuracy = metrics.get("accuracy") if isinstance(metrics, dict) else None
    cells = {
        "RUN": name_of(run),
        "JOB": status.job_id or "-",
        "NODES": _shape(run),
        "STATE": str(status.state),
        "SINCE": _clock(status.since),
        "DONE": progress.part_done(told),
        "LEFT": progress.time_left(status),
        "EPOCH": progress.epoch(told),
        "STEP": progress.step(told),
        "RATE": progress.rate(told),
        "LOSS": progress.number(told.get("loss")),
        "ACCURACY": progress.metric("accuracy", accuracy) if isinstance(accuracy, float) else "",
    }
    return Line(cells, progress.one_line(status.reason), status.state, (_rank(status.state), -(status.since or 0.0)))


def study_line(name: str, size: int, members: Sequence[RunStatus]) -> Line:
    """Return the line of a study: its jobs, and how many of its runs are in which state."""
    states = Counter(status.state for status in members)
    counted = [f"{states[RunState.FINISHED]} of {size} finished"]
    counted += [f"{count} {state.lower()}" for state, count in states.items() if state != RunState.FINISHED]
    going = [state for state in states if state not in FINAL_STATES]
    state = min(going or states, key=_rank, default=RunState.CREATED)
    if not going and states[RunState.FINISHED] < size and state == RunState.FINISHED:
        state = RunState.STOPPED
    since = max((status.since or 0.0 for status in members), default=0.0)
    cells = {
        "RUN": name,
        "JOB": _jobs([status.job_id for status in members if status.job_id]),
        "NODES": "study",
        "STATE": str(state),
        "SINCE": _clock(since or None),
    }
    return Line(cells, ", ".join(counted), state, (_rank(state), -since))


def text(lines: Sequence[Line], width: int | None) -> str:
    """Return the table, what runs and what is newest first, for a terminal of so many columns (None: of any width)."""
    lines = sorted(lines, key=lambda line: line.order)
    shown = [name for name in HEADINGS if any(line.cells.get(name) for line in lines)]
    cells = [{name: _cut(line.cells.get(name, ""), name, width) for name in shown} for line in lines]
    widths = {name: max(len(name), *(len(row[name]) for row in cells)) for name in shown}
    for name in _DROPPED:
        if width is not None and name in shown and sum(widths[one] + 2 for one in shown) - 2 > width:
            shown.remove(name)
    rows = [_joined(shown, widths, dict(zip(shown, shown, strict=True)), None)]
    for line, row in zip(lines, cells, strict=True):
        rows.append(_line(line, row, shown, widths, width))
    return "".join(row.rstrip() + "\n" for row in rows)


def _line(line: Line, row: dict[str, str], shown: Sequence[str], widths: dict[str, int], width: int | None) -> str:
    head = [name for name in shown if HEADINGS.index(name) < _FREE]
    instead = bool(line.text) and (line.state != RunState.STOPPED or not row.get("DONE"))
    kept = head if instead and (line.state in FINAL_STATES or not row.get("DONE")) else shown
    begin = _joined(kept, widths, row, state_colour(line.state))
    if not line.text:
        return begin
    room = None if width is None else width - sum(widths[name] + 2 for name in kept)
    if room is None or len(line.text) <= room:
        return f"{begin}  {line.text}"
    return f"{begin}\n{_INDENT}{shorten(line.text, (width or 0) - len(_INDENT), placeholder='..')}"


def _joined(shown: Sequence[str], widths: dict[str, int], row: dict[str, str], colour: str | None) -> str:
    parts = []
    for name in shown:
        cell = row[name].rjust(widths[name]) if name in _RIGHT else row[name].ljust(widths[name])
        parts.append(coloured(cell, colour) if name == "STATE" else cell)
    return "  ".join(parts)


def _cut(cell: str, name: str, width: int | None) -> str:
    return cell if name != "RUN" or width is None or len(cell) <= _LONGEST_NAME else f"{cell[: _LONGEST_NAME - 2]}.."


def _rank(state: str) -> int:
    """Return where a state stands: what goes on, what waits, what has ended."""
    waits = (RunState.QUEUED, RunState.CREATED, RunState.PREEMPTED)
    return 2 if state in FINAL_STATES else 1 if state in waits else 0


def _shape(run: RunDirectory) -> str:
    """Return nodes x ranks on each, where the description can be read."""
    with suppress(SpecError):
        resources = run.load_spec().resources
        return f"{resources.nodes}x{resources.local_size}"
    return "-"


def _jobs(job_ids: Sequence[str]) -> str:
    """Return the jobs of a study: one, or the first and the last."""
    names = list(dict.fromkeys(job_ids))
    return names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}" if names else "-"


def _clock(moment: float | None) -> str:
    """Return a time as people say it: the hour today, else the day."""
    if moment is None:
        return "-"
    then, now = time.localtime(moment), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d", then)
