"""Dual nets beside the runs they are compared with: losses of both halves, activations, bytes, accuracy, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hpcsynapse.errors import RecordError
from hpcsynapse.files import read_json
from hpcsynapse.report.describe import describe
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import parts
from hpcsynapse.table import BYTES, FRACTION, KEY, column, columns

_PARTS = ("single", "net1", "net2")


@dataclass(frozen=True, slots=True, kw_only=True)
class DualPoint:
    """One run; the fields, in this order, are the columns of the table. None: not known, or not for this strategy."""

    run: str = column("name of the run", priority=KEY, always=True)
    strategy: str = column("strategy with its options", priority=8)
    cut: str = column("layer behind which the network was cut", shown=False)
    transport: str = column("what carried activations and answers: engine or files", priority=3)
    exchanges: int = column("exchanges so far; of other strategies, steps")
    samples: int = column("samples trained on so far")
    accuracy: float | None = column("newest accuracy on the test data, a fraction", unit=FRACTION, priority=8)
    equal_samples: int | None = column("samples that all runs of this table have trained on", shown=False)
    accuracy_at_equal_samples: float | None = column(
        "newest accuracy at that number of samples, or before", head="at equal samples", unit=FRACTION, priority=7
    )
    equal_exchanges: int | None = column("exchanges, or steps, that all runs of this table have made", shown=False)
    accuracy_at_equal_exchanges: float | None = column(
        "newest accuracy at that number of exchanges, or before", head="at equal exchanges", unit=FRACTION, priority=7
    )
    net1_loss: float | None = column("newest loss of net1: its distance from what net2 answered")
    net2_loss: float | None = column("newest loss of net2, or of the whole network: that of the labels")
    norm_first: float | None = column(
        "root mean square over samples of the activation's norm, first exchange", priority=3
    )
    norm: float | None = column("the same, newest exchange", priority=3)
    dead: float | None = column("share of activations that are zero, a fraction", unit=FRACTION, priority=4)
    verdict: str = column(
        "collapsed: norm below 5 % of the first, or over 95 % dead; diverged: over 100 times, or nan", priority=8
    )
    bytes_forward: float | None = column(
        "bytes of an exchange from net1 to net2", head="bytes to net2", unit=BYTES, priority=4
    )
    bytes_back: float | None = column("bytes of an exchange from net2 to net1", unit=BYTES, priority=4)
    net1_memory: int | None = column(
        "peak memory of rank 0's process in bytes, libraries included", unit=BYTES, priority=4
    )
    net2_memory: int | None = column(
        "peak memory of rank 1's process in bytes, libraries included", unit=BYTES, priority=4
    )
    net1_device_memory: int | None = column(
        "peak memory of rank 0's tensors on its CUDA device in bytes", unit=BYTES, priority=3
    )
    net2_device_memory: int | None = column(
        "peak memory of rank 1's tensors on its CUDA device in bytes", unit=BYTES, priority=3
    )
    limit: int | None = column("memory in bytes for which the largest batches are given", unit=BYTES, shown=False)
    single_batch: int | None = column("largest batch of the whole network whose tensors fit that memory")
    net1_batch: int | None = column("largest batch of net1")
    net2_batch: int | None = column("largest batch of net2")


COLUMNS = columns(DualPoint)


def dual_report(runs: Sequence[RunDirectory], limit: int | None = None) -> list[DualPoint]:
    """Return one row per run, in the order given; `limit` is a memory in bytes.

    Raises RecordError for a run that has trained nothing, or when none of them is of strategy admm.
    """
    halves = [tuple(read_json(run.dual / f"rank-{rank}.json") or {} for rank in (0, 1)) for run in runs]
    if not any(first for first, _ in halves):
        raise RecordError("no run of strategy admm is among them, or it has made no exchange yet")
    curves = [_curve(run) for run in runs]
    ends = [curve[-1] for curve in curves if curve]
    samples, steps = (min((end[axis] for end in ends), default=0.0) for axis in (0, 1))
    return [
        _row(
            run,
            first,
            second,
            limit,
            accuracy=curve[-1][2] if curve else None,
            equal_samples=int(samples) or None,
            accuracy_at_equal_samples=_until(curve, 0, samples),
            equal_exchanges=int(steps) or None,
            accuracy_at_equal_exchanges=_until(curve, 1, steps),
        )
        for run, (first, second), curve in zip(runs, halves, curves, strict=True)
    ]


def _curve(run: RunDirectory) -> list[tuple[float, float, float]]:
    """Return samples, steps and accuracy of every validation that tells them."""
    points = [[_number(point, key) for key in ("samples", "step", "accuracy")] for point in run.read_metrics()]
    return [(one, two, three) for one, two, three in points if None not in (one, two, three)]  # type: ignore[misc]


def _until(curve: Sequence[tuple[float, float, float]], axis: int, limit: float) -> float | None:
    known = [point[2] for point in curve if point[axis] <= limit]
    return known[-1] if known else None


def _row(
    run: RunDirectory, first: Mapping[str, Any], second: Mapping[str, Any], limit: int | None, **more: Any
) -> DualPoint:
    headers = [part.header for part in parts(run.timings)]
    if not headers:
        raise RecordError(f"{run.name}: no step records; has the run done a step yet?")
    about, status = describe(run.name, headers, run), read_json(run.status) or {}
    step = int(_number(status, "step") or 0)
    exchanges = int(_number(first, "exchanges") or step)
    memory = {
        f"net{half}_{name}": None if found is None else int(found)
        for half, facts in ((1, first), (2, second))
        for name, key in (("memory", "peak_memory_bytes"), ("device_memory", "peak_device_bytes"))
        for found in (_number(facts, key),)
    }
    sent, received = _number(first, "sent_bytes"), _number(first, "received_bytes")
    return DualPoint(
        run=run.name,
        strategy=about.strategy,
        cut=str(first.get("cut", "")),
        transport=str(first.get("exchange", "")),
        exchanges=exchanges,
        samples=step * int(_number(headers[-1], "global_batch") or 0),
        net1_loss=_number(first, "loss"),
        net2_loss=_number(second or status, "loss"),
        norm_first=_number(first, "activation_norm_first"),
        norm=_number(first, "activation_norm"),
        dead=_number(first, "dead"),
        verdict=str(first.get("verdict", "")),
        bytes_forward=None if sent is None else sent / max(exchanges, 1),
        bytes_back=None if received is None else received / max(exchanges, 1),
        limit=limit,
        **memory,
        **_batches(first.get("memory"), limit),
        **more,
    )


def _number(table: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number of a table, or None: another program, or an editor, may have written it."""
    value = table.get(key)
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if sound else None


def _batches(memory: Any, limit: int | None) -> dict[str, int | None]:
    """Return the largest batches, from the peaks of two batches: `trainer.dual.memory.survey`."""
    found: dict[str, int | None] = {f"{part}_batch": None for part in _PARTS}
    if limit is None or not isinstance(memory, Mapping):
        return found
    with suppress(KeyError, TypeError, ValueError, ZeroDivisionError):  # another release may have written it
        small, large = memory["batches"]
        for part in _PARTS:
            low, high = memory[part]
            found[f"{part}_batch"] = max(0, int(small + (limit - low) * (large - small) / (high - low)))
    return found
