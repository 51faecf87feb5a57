"""The scalars of a run: what it recorded step by step, and the results of its validations.

`train/loss`, `train/samples_per_s` and `train/epoch`, `time/step_s` (mean period of all ranks), `time/slowest_s` (the
slowest rank's step), `time/PHASE_s` (mean over ranks), `validation/METRIC`, `drift/parameters`, `node-N/QUANTITY` of
what was sampled on nodes. Asynchronous strategies have no common step: theirs are `train/loss` and
`train/samples_per_s` by equal slices of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from hpcsynapse.errors import RecordError
from hpcsynapse.export.node_load import node_scalars
from hpcsynapse.export.series import Series
from hpcsynapse.files import read_json_lines
from hpcsynapse.report.loading import LoadedRun, load
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.timing import PHASES

_PLACES = ("time", "step", "epoch", "samples")  # of a line of metrics.jsonl; all other numbers in it are metrics
_LARGEST = 2.0**34  # steps; far beyond those that a record can hold
_LATEST = 4e9  # Unix time


def scalars_of(source: RunDirectory | Path) -> list[Series]:
    """Return the scalars of a run, or of a folder of step records.

    Raises RecordError where there are neither step records nor validations.
    """
    found = [*_of_validations(source), *node_scalars(source.telemetry)] if isinstance(source, RunDirectory) else []
    try:
        found = [*_of_steps(load(source)), *found]
    except RecordError:
        if not found:
            raise
    kept = (_known(one) for one in found)
    return [one for one in kept if len(one.steps)]


def _of_steps(run: LoadedRun) -> Iterator[Series]:
    if run.about.asynchronous:
        slices = np.arange(len(run.rates), dtype=np.int64)
        yield Series("train/loss", slices, run.start, run.loss)
        yield Series("train/samples_per_s", slices, run.start, run.rates)
        return
    period = np.where(run.period > 0, run.period, np.nan)
    by_name = {
        "train/loss": run.loss,
        "train/samples_per_s": run.samples / period,
        "train/epoch": run.epoch.astype(np.float64),
        "time/step_s": run.period,
        "time/slowest_s": run.slowest,
        **{f"time/{phase}_s": run.phases[:, column] for column, phase in enumerate(PHASES)},
    }
    for name, values in by_name.items():
        yield Series(name, run.step, run.start, values)


def _of_validations(run: RunDirectory) -> Iterator[Series]:
    points: dict[str, list[tuple[float, float, float]]] = {}
    for record in run.read_metrics():
        for key in record.keys() - set(_PLACES):
            _add(points.setdefault(f"validation/{key}", []), record, key)
    for record in read_json_lines(run.drift):
        _add(points.setdefault("drift/parameters", []), record, "drift")
    for name in sorted(points):
        if points[name]:
            step, time, value = np.array(sorted(set(points[name]))).T
            yield Series(name, step.astype(np.int64), time, value)


def _add(found: list[tuple[float, float, float]], record: Mapping[str, Any], key: str) -> None:
    """Add what a line tells under a key, where its step, its time and that are numbers."""
    told = [record.get(name) for name in ("step", "time", key)]
    step, time, value = (float(one) if _is_number(one) else math.nan for one in told)
    if 0 <= step < _LARGEST and 0 <= time < _LATEST and math.isfinite(value):
        found.append((step, time, value))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _known(one: Series) -> Series:
    kept = np.isfinite(one.values) & np.isfinite(one.times) & (one.times >= 0) & (one.times < _LATEST)
    return Series(one.name, one.steps[kept], one.times[kept], one.values[kept])
