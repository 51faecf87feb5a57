"""Tables in the forms in which the five sources published theirs.

`batch`: training time by batch size (rows) and set-up (columns: nodes x ranks per node). `modes`: steps per second,
batch, test error, hours and speedup of every strategy and number of ranks. `models`: images per second and speedup by
model, strategy and ranks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hpcsynapse.report.points import Point, ScalingPoint, column
from hpcsynapse.report.scaling import Compared, rows_of
from hpcsynapse.report.tables import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One row of the table of modes; the fields, in this order, are its columns. None: not known."""

    strategy: str = column("how the ranks worked together")
    engine: str = column("what moved the data")
    model: str = column("model")
    data: str = column("data set")
    nodes: int = column("nodes")
    ranks: int = column("ranks that trained")
    steps_per_s: float = column("updates of the model per second; asynchronous: of all workers together")
    step_batch: float = column("samples of one such update")
    error: float | None = column("1 - accuracy on the test data, a fraction")
    hours: float = column("from the start of the first step to the end of the last one, mean over the runs")
    speedup: float = column("as in the scaling report")


MODES = Layout(tuple(item.name for item in dataclasses.fields(Mode)), (
    ("strategy", "strategy"), ("engine", "engine"), ("model", "model"), ("data", "data"), ("nodes", "nodes"),
    ("ranks", "ranks"), ("steps/s", "steps_per_s"), ("batch", "step_batch"), ("error", "error"), ("hours", "hours"),
    ("speedup", "speedup"),
))  # fmt: skip
_BATCH = ("model", "data", "batch_per_rank")
_MODEL = ("model", "data", "strategy", "engine", "ranks", "throughput", "speedup", "speedup_low", "speedup_high")
MODELS = Layout(_MODEL, (
    ("model", "model"), ("data", "data"), ("strategy", "strategy"), ("engine", "engine"), ("ranks", "ranks"),
    ("images/s", "throughput"), ("speedup", "speedup"),
))  # fmt: skip


def modes(compared: Sequence[Compared]) -> tuple[list[Mode], Layout]:
    """Return steps/s, batch, error, hours and speedup of every point, and how that is laid out."""
    found = [_mode(point, row) for point, row in _pairs(compared)]
    return sorted(found, key=lambda one: (one.model, one.data, one.strategy, one.engine, one.ranks, one.nodes)), MODES


def models(compared: Sequence[Compared]) -> tuple[list[dict[str, Any]], Layout]:
    """Return images/s and speedup by model, strategy and ranks, and how that is laid out."""
    rows = [row for _, row in _pairs(compared)]
    rows.sort(key=lambda row: (row.model, row.data, row.strategy, row.engine, row.ranks))
    return [{name: getattr(row, name) for name in _MODEL} for row in rows], MODELS


def batch(compared: Sequence[Compared]) -> tuple[list[dict[str, Any]], Layout]:
    """Return training time (hours) by model, data and batch per rank, a column for every set-up, and its layout."""
    pairs = sorted(_pairs(compared), key=lambda pair: (pair[1].ranks, pair[1].nodes or 0, pair[1].strategy))
    kinds = {(row.strategy, row.engine) for _, row in pairs if row.ranks > 1}
    cells: dict[tuple[str, str, float], dict[str, float]] = {}
    setups: dict[str, None] = {}
    for point, row in pairs:
        setup = f"{point.nodes}x{-(-point.ranks // point.nodes)}"
        if len(kinds) > 1 and row.ranks > 1:
            setup = f"{setup} {row.strategy} {row.engine}".strip()
        setups[setup] = None
        cells.setdefault((row.model, row.data, row.batch_per_rank or 0), {}).setdefault(setup, _hours(point))
    rows = [dict(zip(_BATCH, key, strict=True)) | {one: own.get(one) for one in setups}
            for key, own in sorted(cells.items())]  # fmt: skip
    shown = tuple((f"{one} (h)", one) for one in setups)
    return rows, Layout((*_BATCH, *setups), (*zip(("model", "data", "batch/rank"), _BATCH, strict=True), *shown))


TABLES: dict[str, Callable[[Sequence[Compared]], tuple[list[Any], Layout]]] = {
    "batch": batch, "modes": modes, "models": models,
}  # fmt: skip


def _pairs(compared: Sequence[Compared]) -> list[tuple[Point, ScalingPoint]]:
    return [pair for one in compared for pair in zip(one.points, rows_of(one), strict=True)]


def _mode(point: Point, row: ScalingPoint) -> Mode:
    step = point.global_batch
    if point.asynchronous:  # a worker makes a step of its own, under `mixed` a node
        step = point.batch_per_rank * (point.ranks / point.nodes if row.strategy.startswith("mixed") else 1)
    return Mode(
        strategy=row.strategy,
        engine=row.engine,
        model=row.model,
        data=row.data,
        nodes=point.nodes,
        ranks=row.ranks,
        steps_per_s=(row.throughput or 0.0) / step,
        step_batch=step,
        error=None if row.accuracy is None else 1 - row.accuracy,
        hours=_hours(point),
        speedup=row.speedup,
    )


def _hours(point: Point) -> float:
    return sum(measured.run.span_s for measured in point.repeats) / len(point.repeats) / 3600
