"""Telemetry of nodes as counters of a trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hpcsynapse.report.trace.events import Floats, TraceWriter
from hpcsynapse.report.trace.steps import LATEST, nanoseconds
from hpcsynapse.runs.telemetry import STANDARD, Telemetry, telemetry
from hpcsynapse.timing import PHASES

MOST_VALUES = 1_000_000  # beyond, means over equally many samples stand for them
_IN_STEPS = {"step", "samples", "step_time", "own_median", "own_slowest", "slowest_rank", *PHASES}
Correct = Callable[[Telemetry, Floats], Floats]


def write_counters(
    writer: TraceWriter, folder: Path, first: float, last: float, correct: Correct, known: set[int]
) -> None:
    """Write what was sampled on nodes from `first` to `last` (Unix times), but what their steps tell better.

    `known` are the numbers of the processes that have a name already.
    """
    files = telemetry(folder)
    values = sum(one.count * len(one.columns) for one in files)
    stride = max(1, -(-values // MOST_VALUES))
    for one in files:
        node = one.header.get("node_rank")
        if not isinstance(node, int) or node < 0:
            continue
        records = np.frombuffer(one.read(), np.dtype(one.kinds))
        records = records[(records["time"] > 0) & (records["time"] < LATEST)]
        times = correct(one, records["time"].astype(np.float64))
        chosen = (times >= first) & (times <= last)
        order = np.argsort(times[chosen], kind="stable")
        records, times = records[chosen][order], times[chosen][order]
        if node not in known:
            known.add(node)
            writer.process(node, f"node {node} {one.host}")
        for column in one.columns[len(STANDARD) :]:
            sampled = _thinned(records[column.name].astype(np.float64), stride)
            kept = np.isfinite(sampled)
            if column.name not in _IN_STEPS and kept.any() and np.ptp(sampled[kept]) > 0:
                when = nanoseconds(times[::stride][kept] - first)
                writer.counter(node, column.name, column.unit, when, sampled[kept])


def _thinned(values: Floats, stride: int) -> Floats:
    """Return the means of so many values each, of those that are known."""
    if stride == 1 or not len(values):
        return values
    padded = np.append(values, np.full(-len(values) % stride, np.nan)).reshape(-1, stride)
    there = np.isfinite(padded)
    count = there.sum(axis=1)
    means = np.where(there, padded, 0.0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, means, np.nan)
