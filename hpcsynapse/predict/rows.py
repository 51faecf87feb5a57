"""The rows of a prediction: their columns, and how a forecast fills them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict.forecast import FAR, Forecast
from hpcsynapse.predict.laws import Law
from hpcsynapse.table import FRACTION, KEY, RATIO, SECONDS, column, columns, lower_end, upper_end

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastPoint:
    """One row of a prediction; the fields, in this order, are its columns. None: not known."""

    strategy: str = column("how the ranks work together", shown=False)
    engine: str = column("what moves the data", shown=False)
    model: str = column("model, or the program of a user's own command", shown=False)
    data: str = column("data set", shown=False)
    settings: str = column("settings that tell this curve from others", shown=False)
    nodes: int | None = column("nodes, filled as those that were measured", priority=KEY)
    ranks: int = column("ranks that train", priority=KEY)
    baseline_strategy: str = column("strategy of the point that speedup and efficiency refer to", shown=False)
    baseline_ranks: int = column("ranks of the point that speedup and efficiency refer to", shown=False)
    scaling: str = column("strong: equal global batch; weak: equal batch per rank", shown=False)
    batch_per_rank: float | None = column("samples of a rank in a step", head="batch/rank", priority=4)
    step_time_s: float | None = column(
        "predicted mean step, that of the rate; asynchronous: in which a worker makes one",
        unit=SECONDS,
        interval=True,
        priority=7,
    )
    step_time_s_low: float | None = lower_end()
    step_time_s_high: float | None = upper_end()
    compute_s: float | None = column(
        "of it, computation of the slowest rank", head="computation", unit=SECONDS, priority=3
    )
    communicate_s: float | None = column(
        "of it, communication that nothing hides", head="exchange", unit=SECONDS, priority=3
    )
    throughput: float | None = column("samples per second of all ranks", shown=False)
    speedup: float = column("predicted, against the measured baseline", unit=RATIO, interval=True, priority=KEY)
    speedup_low: float = lower_end()
    speedup_high: float = upper_end()
    efficiency: float = column(
        "speedup / (ranks / baseline_ranks), a fraction", unit=FRACTION, interval=True, priority=KEY
    )
    efficiency_low: float = lower_end()
    efficiency_high: float = upper_end()
    amdahl_speedup: float | None = column(
        "speedup by Amdahl's law, for strong scaling", head="by Amdahl", unit=RATIO, priority=2
    )
    usl_speedup: float | None = column(
        "speedup by the universal scalability law, for strong scaling", head="by USL", unit=RATIO, priority=2
    )
    epoch_time_s: float | None = column("steps of an epoch x step time", unit=SECONDS, priority=4)
    rank_hours: float | None = column("of an epoch: ranks x its time", head="rank-hours", priority=4)
    measured_speedup: float | None = column("as it was measured", head="measured", unit=RATIO, priority=6)
    left_out_error: float | None = column(
        "step time as the other points predict it / as measured - 1", head="error", unit=FRACTION, priority=6
    )
    amdahl_left_out_error: float | None = column(
        "the same by Amdahl's law", head="error of Amdahl", unit=FRACTION, priority=1
    )
    usl_left_out_error: float | None = column(
        "the same by the universal scalability law", head="error of USL", unit=FRACTION, priority=1
    )
    flags: str = column("remarks, separated by blanks", priority=8)


COLUMNS = columns(ForecastPoint)
FLAGS = {
    "measured": "was measured; left_out_error says how well the other points predict it",
    "far": f"more than {FAR} times the ranks that were measured",
    "one-node": "all measured ranks shared one node: nothing is said of more ranks than it has",
    "given-network": "the network between nodes was not measured: it is the one given by --network",
    "no-phases": "runs recorded no phases: differences between ranks count as communication",
    "knee": "the largest number of ranks from which doubling brings half of the ideal gain",
    "deadline": "the fewest ranks that meet the deadline",
    "budget": "the fastest that the budget allows",
}


def rows(forecast: Forecast, asked: Iterable[int]) -> list[ForecastPoint]:
    """Return one row for each number of ranks asked for, measured and recommended, by ranks."""
    curve = forecast.curve
    marks: dict[tuple[int, int], list[str]] = {(one.ranks, one.nodes): ["measured"] for one in curve.observations}

    def row(ranks: int) -> list[str]:
        return marks.setdefault((ranks, int(forecast.nodes(np.array([ranks], float))[0])), [])

    for ranks in asked:
        row(ranks)
    for name in ("knee", "deadline", "budget"):
        if (found := getattr(forecast, name)) is not None:
            row(found).append(name)
    places = sorted(marks)
    ranks, nodes = np.array(places, float).T
    table = _Table(forecast, ranks, nodes)
    return [table.row(index, marks[place]) for index, place in enumerate(places)]


class _Table:
    """All figures of a prediction, by row."""

    def __init__(self, forecast: Forecast, ranks: Floats, nodes: Floats) -> None:
        self._forecast, self._ranks, self._nodes = forecast, ranks, nodes
        parts = forecast.model.parts(ranks, nodes)
        self._compute, self._communicate = (part[0] for part in np.broadcast_arrays(*parts))
        self._time = self._compute + self._communicate
        self._speedup = forecast.speedup(ranks, self._time[None])[0]
        self._times, self._speedups = forecast.intervals(ranks, nodes)
        self._epoch = forecast.epoch_s(self._speedup)

    def row(self, index: int, remarks: list[str]) -> ForecastPoint:
        """Return one row."""
        curve, ranks, nodes = self._forecast.curve, int(self._ranks[index]), int(self._nodes[index])
        growth, speedup = ranks / curve.baseline_ranks, float(self._speedup[index])
        low, high = (float(end) for end in self._speedups[:, index])
        epoch = None if self._epoch is None else float(self._epoch[index])
        return ForecastPoint(
            strategy=curve.strategy,
            engine=curve.engine,
            model=curve.model,
            data=curve.data,
            settings=curve.settings,
            nodes=nodes if curve.nodes_known else None,
            ranks=ranks,
            baseline_strategy=curve.baseline_strategy,
            baseline_ranks=curve.baseline_ranks,
            scaling=curve.scaling,
            batch_per_rank=float(curve.batches(self._ranks)[index]) if curve.batches_known else None,
            **self._seconds(index),
            throughput=None if curve.base_throughput is None else curve.base_throughput * speedup,
            speedup=speedup,
            speedup_low=low,
            speedup_high=high,
            efficiency=speedup / growth,
            efficiency_low=low / growth,
            efficiency_high=high / growth,
            amdahl_speedup=_by_law(self._forecast.amdahl, ranks),
            usl_speedup=_by_law(self._forecast.usl, ranks),
            epoch_time_s=epoch,
            rank_hours=None if epoch is None else epoch * ranks / 3600,
            **self._measured(ranks, nodes),
            flags=" ".join([*remarks, *self._forecast.doubts(ranks)]),
        )

    def _seconds(self, index: int) -> dict[str, float | None]:
        known = self._forecast.curve.seconds
        figures = {
            "step_time_s": self._time[index],
            "step_time_s_low": self._times[0, index],
            "step_time_s_high": self._times[1, index],
            "compute_s": self._compute[index],
            "communicate_s": self._communicate[index],
        }
        return {name: float(value) if known else None for name, value in figures.items()}

    def _measured(self, ranks: int, nodes: int) -> dict[str, Any]:
        names = ("left_out_error", "amdahl_left_out_error", "usl_left_out_error")
        for point in self._forecast.curve.observations:
            if (point.ranks, point.nodes) == (ranks, nodes):
                speedup = self._forecast.speedup(np.array([ranks], float), np.array([[point.time]]))[0, 0]
                errors = self._forecast.left_out(point)
                return {"measured_speedup": float(speedup), **dict(zip(names, errors, strict=True))}
        return dict.fromkeys(("measured_speedup", *names))


def _by_law(law: Law | None, ranks: int) -> float | None:
    return None if law is None else float(law.speedup(np.array([ranks], float))[0])
