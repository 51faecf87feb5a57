"""The node-hours of a run by cause, which add up to its allocation: those of `report lost`, with the steps taken apart.

The time of useful steps is divided as `report why` divides the time from step to step of the measured steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hpcsynapse.errors import RecordError
from hpcsynapse.report.loading import load
from hpcsynapse.report.lost_work import lost_work
from hpcsynapse.report.reduced import Measured
from hpcsynapse.report.why import step_times
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.table import FRACTION, KEY, NUMBER, column, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Node-hours of one run that went into one thing; those of all causes add up to `allocated`."""

    run: str = column("name of the run", priority=KEY, always=True)
    cause: str = column("what they went into", priority=KEY, always=True)
    node_hours: float = column("node-hours", head="node-hours", unit=NUMBER, priority=8, always=True)
    share: float = column("of all that were allocated", unit=FRACTION, priority=8, always=True)
    meaning: str = column("what counts as this", priority=4, always=True)


COLUMNS = columns(Cause)
_MEANING = {
    "compute": "forward, backward and update of steps that count",
    "input": "their waiting for data",
    "exposed communication": "their exchange that nothing hides",
    "imbalance": "their waiting for the slowest rank",
    "other": "between their phases, and between steps",
    "start-up": "from a start of the job to its first step",
    "validation": "marked pauses for it",
    "checkpoint": "marked pauses for it",
    "repeated work": "steps that were made again, or not kept",
    "idle": "until a failure was noticed; nodes without work",
    "total": "all that was allocated",
}


def causes(runs: Iterable[RunDirectory]) -> list[Cause]:
    """Return the node-hours of every run by cause, then their total; raises RecordError without step records."""
    return [row for run in runs for row in _of_run(run)]


def _of_run(run: RunDirectory) -> list[Cause]:
    (found,) = lost_work([run])
    hours = found.hours
    parts = {name: hours.useful * share for name, share in _shares(run).items()}
    parts |= {
        "start-up": hours.restart,
        "validation": hours.validation,
        "checkpoint": hours.save,
        "repeated work": hours.replayed,
        "idle": hours.detection + hours.waiting,
        "total": hours.allocated,
    }
    return [
        Cause(run=run.name, cause=name, node_hours=value, share=value / hours.allocated, meaning=_MEANING[name])
        for name, value in parts.items()
    ]


def _shares(run: RunDirectory) -> dict[str, float]:
    """Return the shares of the time from step to step; all of it is compute where the steps do not tell."""
    try:
        measured = Measured(load(run))
        times = step_times(measured)
    except RecordError:
        return {"compute": 1.0, "input": 0.0, "exposed communication": 0.0, "imbalance": 0.0, "other": 0.0}
    about, period = measured.run.about, float(measured.period.mean())
    if about.asynchronous:
        period = float(measured.run.worker_spent[-1]) / max(1, measured.run.worker_steps * about.ranks)
    parts = {
        "compute": times["forward"] + times["backward"] + times["update"],
        "input": times["data"],
        "exposed communication": times["exchange"],
        "imbalance": times["waiting"],
    }
    parts["other"] = max(0.0, period - sum(parts.values()))
    whole = sum(parts.values())
    return {name: seconds / whole for name, seconds in parts.items()}
