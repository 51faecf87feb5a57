"""What a trace shows of the run as a whole: its states, wishes to stop, validations, and what failed first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from hpcsynapse.report.trace.events import Slices, Thread, TraceWriter
from hpcsynapse.report.trace.steps import LATEST, nanoseconds
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.runs.states import FINAL_STATES, RunState

RUN = 1_000_000  # number of the process that the run is, behind those of nodes
_STATE = Thread(RUN, 0, "state")
_QUEUED = (RunState.CREATED, RunState.QUEUED, RunState.UNKNOWN)
_PLACES = ("time", "step", "epoch", "samples")  # of a line of the learning curve; the other numbers are metrics
_LONGEST = 300  # characters of a text from outside
Correct = Callable[[float], float]


def write_run(writer: TraceWriter, run: RunDirectory, first: float, last: float, correct: Correct) -> None:
    """Write what the run's own files tell of the time from `first` to `last`, Unix times.

    `correct` brings a time of the node that rank 0 is on to the clock of the trace.
    """
    states = _states(run, correct)
    marks = [mark for mark in _marks(run, states, correct) if first <= mark[0] <= last]
    writer.process(RUN, f"run {run.name}")
    writer.thread(_STATE)
    _write_states(writer, [one for one in states if one[0] <= last], first, last)
    for when, text, everywhere in sorted(marks):
        writer.instant(_STATE, text[:_LONGEST], round((when - first) * 1e9), everywhere)
    for name, points in _metrics(run, correct).items():
        chosen = np.array(sorted(point for point in points if first <= point[0] <= last))
        if len(chosen):
            writer.counter(RUN, name, "", nanoseconds(chosen[:, 0] - first), chosen[:, 1])


def begin_of_job(run: RunDirectory, before: float, correct: Correct) -> float:
    """Return when the job of a run began, before its first step at `before`; that itself where nothing tells."""
    early = [when for when, _, _ in _states(run, correct) if when <= before]
    return min(early, default=before)


def _states(run: RunDirectory, correct: Correct) -> list[tuple[float, str, str]]:
    """Return the states of the run with their times and reasons, from when its job first ran."""
    told = [entry for entry in run.read_history() if _is_time(entry.get("time")) and isinstance(entry["state"], str)]
    found = [(correct(entry["time"]), entry["state"], str(entry.get("reason", ""))) for entry in told]
    while found and found[0][1] in _QUEUED:
        found.pop(0)
    return sorted(found, key=lambda one: one[0])


def _write_states(writer: TraceWriter, states: list[tuple[float, str, str]], first: float, last: float) -> None:
    """Write states as slices, each until the next; what is final has none."""
    begins = np.array([when for when, _, _ in states])
    ends = np.append(begins[1:], last)
    shown = [
        place
        for place, (_, state, _) in enumerate(states)
        if ends[place] > max(first, begins[place]) and state not in FINAL_STATES
    ]
    if not shown:
        return
    names = [states[place][1][:_LONGEST] for place in shown]
    begin, end = np.clip(begins[shown], first, last) - first, np.clip(ends[shown], first, last) - first
    place = np.arange(len(shown))
    writer.slices(_STATE, Slices(begin=nanoseconds(begin), end=nanoseconds(end), name=place, names=names))


def _marks(run: RunDirectory, states: list[tuple[float, str, str]], correct: Correct) -> list[tuple[float, str, bool]]:
    """Return time, text, and whether it concerns all threads: final states, and wishes to stop."""
    found = [
        (when, f"{state}: {reason}" if reason else state, False)
        for when, state, reason in states
        if state in FINAL_STATES
    ]
    with suppress(OSError):
        asked = run.stop.read_text(errors="replace").strip()
        found.append((run.stop.stat().st_mtime, f"stop requested: {asked}", True))
    for path in run.path.glob(run.signal_notice("*").name):
        with suppress(OSError):
            signals = " ".join(path.read_text(errors="replace").split())
            found.append((correct(path.stat().st_mtime), f"signal taken by the job script: {signals}", True))
    return found


def _metrics(run: RunDirectory, correct: Correct) -> dict[str, list[tuple[float, float]]]:
    """Return the results of validations by name: times and values."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in run.read_metrics():
        for name, value in record.items():
            if name not in _PLACES and _is_number(value) and _is_time(record.get("time")):
                found.setdefault(f"validation {name}", []).append((correct(record["time"]), float(value)))
    return found


def failure_of(run: RunDirectory) -> tuple[int, float, str, str] | None:
    """Return rank, time (Unix, by its host's clock), host and text of what failed first, None where nothing did."""
    failure = first_failure(run)
    if not failure or not _is_time(failure.get("time")):
        return None
    text = f"first failure: rank {failure['rank']}, {failure['reason']}"
    return failure["rank"], float(failure["time"]), str(failure["host"]), text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 < value < LATEST
