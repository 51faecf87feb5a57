"""The lines of plots: rows of a report that differ in ranks alone, and names that tell them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hpcsynapse.report.plots.style import colour, dashes, marker, short
from hpcsynapse.report.points import ScalingPoint
from hpcsynapse.report.varied import apart, brief

_BESIDE = 2.5  # points


@dataclass(frozen=True)
class Series:
    """A line of a plot: rows that differ in ranks alone, by ranks."""

    label: str
    rows: tuple[ScalingPoint, ...]
    shade: str
    sign: str
    dash: Any
    place: (
        float  # how far its intervals stand beside its points, in points: those of several lines would hide each other
    )

    @property
    def origin(self) -> tuple[int, str]:
        """Ranks and strategy of the baseline."""
        return self.rows[0].baseline_ranks, self.rows[0].baseline_strategy


def series_of(rows: Iterable[ScalingPoint]) -> list[Series]:
    """Return the lines of a report in its order; a lone point that only serves as a baseline is not one of them."""
    groups: dict[tuple[Any, ...], list[ScalingPoint]] = {}
    rows = list(rows)
    divided = apart(((_key(row), row.ranks, row.nodes), row.settings) for row in rows)
    for row in rows:
        number = 0  # part of the label from 1 on
        key = (*_key(row), brief(row.settings) if divided else "")
        while any((other.ranks, other.nodes) == (row.ranks, row.nodes) for other in groups.get((*key, number), ())):
            number += 1  # runs that differ in what is no column, such as the hardware
        groups.setdefault((*key, number), []).append(row)
    served = {(row.baseline_strategy, row.baseline_ranks) for row in rows if row.strategy != row.baseline_strategy}
    kept = {key: own for key, own in groups.items() if len(own) > 1 or (own[0].strategy, own[0].ranks) not in served}
    groups = kept or groups
    names = labels(list(groups))
    return [
        Series(
            label,
            tuple(sorted(own, key=lambda row: (row.ranks, row.nodes or 0))),
            colour(index),
            marker(index),
            dashes(index),
            _BESIDE * ((index + 1) // 2 if index % 2 else -(index // 2)),
        )
        for index, (label, own) in enumerate(zip(names, groups.values(), strict=True))
    ]


def _key(row: ScalingPoint) -> tuple[Any, ...]:
    batch = row.global_batch if row.scaling == "strong" else row.batch_per_rank
    return (
        row.strategy,
        row.engine,
        row.model,
        row.data,
        row.scaling,
        "" if batch is None else f"batch {batch:g}",
        f"from {row.baseline_strategy}",
        f"from {row.baseline_ranks}",
    )


def labels(keys: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return a name for every key: its first item, and what else of it is needed to tell the keys apart."""
    chosen = [0]
    for index in range(1, len(keys[0]) if keys else 0):
        told = len({tuple(key[one] for one in chosen) for key in keys})
        if len({tuple(key[one] for one in (*chosen, index)) for key in keys}) > told:
            chosen.append(index)
    named = [", ".join(str(key[index]) for index in chosen if key[index] not in ("", 0)) for key in keys]
    shortened = [short(name) for name in named]
    return [name or "measured" for name in (shortened if len(set(shortened)) == len(set(named)) else named)]
