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

from hpcsynapse.report import points
from hpcsynapse.report.describe import ASYNCHRONOUS
from hpcsynapse.report.points import ScalingPoint
from hpcsynapse.table import FRACTION, KEY, NUMBER, RATIO, Column, Columns, column, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One row of the table of modes; the fields, in this order, are its columns. None: not known."""

    strategy: str = column("how the ranks worked together", priority=KEY)
    engine: str = column("what moved the data", priority=KEY)
    model: str = column("model", priority=KEY)
    data: str = column("data set", priority=KEY)
    settings: str = column("what else differs between the runs of this report", priority=KEY)
    nodes: int | None = column("nodes", priority=KEY)
    ranks: int = column("ranks that trained", priority=KEY)
    steps_per_s: float | None = column(
        "updates of the model per second; asynchronous: of all workers together", head="steps/s"
    )
    step_batch: float | None = column("samples of one such update", head="batch")
    error: float | None = column("1 - accuracy on the test data, a fraction", unit=FRACTION)
    hours: float | None = column("from the start of the first step to the end of the last one, mean over the runs")
    speedup: float = column("as in the scaling report", unit=RATIO)


COLUMNS = columns(Mode)
_MODEL = (
    "model",
    "data",
    "strategy",
    "engine",
    "settings",
    "ranks",
    "throughput",
    "speedup",
    "speedup_low",
    "speedup_high",
)
MODELS = {name: points.COLUMNS[name] for name in _MODEL} | {
    "throughput": dataclasses.replace(points.COLUMNS["throughput"], head="images/s", interval=False)
}
_BATCH = {name: points.COLUMNS[name] for name in ("model", "data", "settings", "batch_per_rank")}


def modes(rows: Sequence[ScalingPoint]) -> tuple[list[Mode], Columns]:
    """Return steps/s, batch, error, hours and speedup of every point, and its columns."""
    found = [_mode(row) for row in rows]
    found.sort(key=lambda one: (one.model, one.data, one.strategy, one.engine, one.settings, one.ranks, one.nodes or 0))
    return found, COLUMNS


def models(rows: Sequence[ScalingPoint]) -> tuple[list[ScalingPoint], Columns]:
    """Return images/s and speedup by model, strategy and ranks, and its columns."""
    found = sorted(rows, key=lambda row: (row.model, row.data, row.strategy, row.engine, row.settings, row.ranks))
    return found, _varied(rows, MODELS)


def _varied(rows: Sequence[ScalingPoint], known: Columns) -> Columns:
    """Return the columns of a published form, without settings where rows differ in none."""
    return {name: one for name, one in known.items() if name != "settings" or any(row.settings for row in rows)}


def batch(rows: Sequence[ScalingPoint]) -> tuple[list[dict[str, Any]], Columns]:
    """Return hours of training by model, data, settings and batch per rank, a column a set-up, and its columns."""
    cells: dict[tuple[str, str, str, float], dict[str, float | None]] = {}
    columns_of: dict[str, None] = {}
    for row, setup in by_setup(rows):
        columns_of[setup] = None
        cells.setdefault((row.model, row.data, row.settings, row.batch_per_rank or 0), {}).setdefault(
            setup, row.train_time_h
        )
    shown = _varied(rows, _BATCH)
    found = [
        {name: value for name, value in zip(_BATCH, key, strict=True) if name in shown}
        | {one: own.get(one) for one in columns_of}
        for key, own in sorted(cells.items())
    ]
    hours = {one: Column(name=one, meaning="hours", head=f"{one} (h)", kind=float, unit=NUMBER) for one in columns_of}
    return found, {**shown, **hours}


def by_setup(rows: Sequence[ScalingPoint]) -> list[tuple[ScalingPoint, str]]:
    """Return rows with a training time and their set-ups: nodes x ranks of each, and the strategy where it differs.

    Where nobody told the nodes, a set-up is a number of ranks.
    """
    known = sorted(
        (row for row in rows if row.train_time_h is not None), key=lambda row: (row.ranks, row.nodes or 0, row.strategy)
    )
    kinds = {(row.strategy, row.engine) for row in known if row.ranks > 1}
    return [(row, _setup(row, len(kinds) > 1 and row.ranks > 1)) for row in known]


def _setup(row: ScalingPoint, with_strategy: bool) -> str:
    place = f"{row.nodes}x{-(-row.ranks // row.nodes)}" if row.nodes else str(row.ranks)
    return f"{place} {row.strategy} {row.engine}".strip() if with_strategy else place


TABLES: dict[str, Callable[[Sequence[ScalingPoint]], tuple[list[Any], Columns]]] = {
    "batch": batch,
    "modes": modes,
    "models": models,
}


def _mode(row: ScalingPoint) -> Mode:
    step = update_batch(row.strategy, row.ranks, row.nodes, row.batch_per_rank)
    rate = row.throughput / step if step and row.throughput and row.steps_per_s is None else row.steps_per_s
    return Mode(
        strategy=row.strategy,
        engine=row.engine,
        model=row.model,
        data=row.data,
        settings=row.settings,
        nodes=row.nodes,
        ranks=row.ranks,
        steps_per_s=rate,
        step_batch=step,
        error=None if row.accuracy is None else 1 - row.accuracy,
        hours=row.train_time_h,
        speedup=row.speedup,
    )


def update_batch(strategy: str, ranks: int, nodes: int | None, batch_per_rank: float | None) -> float | None:
    """Return the samples of one update: of a worker's step where ranks do not wait, in `mixed` of a node's.

    None where the batch of a rank is not known.
    """
    kind = strategy.partition("+")[0]
    if batch_per_rank is None:
        return None
    if kind not in ASYNCHRONOUS:
        return batch_per_rank * ranks
    return batch_per_rank * (ranks / nodes if kind == "mixed" and nodes else 1)
