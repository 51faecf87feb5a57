"""The scaling report of figures that were measured elsewhere and stand in a table.

A table may hold several measures and batches at once. A row of the report is a point with all that was measured of it;
its speedup is that of the first measured column. Rows of equal strategy, model and batch are compared with one another:
`batch` is that of a rank, `global_batch` of all of them, which is equal in strong scaling and grows with the ranks in
weak scaling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from hpcsynapse.errors import SpecError
from hpcsynapse.report.describe import ASYNCHRONOUS
from hpcsynapse.report.intervals import Estimate, of_repeats, ratio
from hpcsynapse.report.points import ScalingPoint
from hpcsynapse.report.publication import update_batch
from hpcsynapse.report.scaling import Report
from hpcsynapse.report.table_rows import MEASURES, Place, Row, families, read_table
from hpcsynapse.spec.names import STRATEGIES

Group = tuple[str, str, str, str]  # strategy, batch, model, data; equal ones are compared


def table_report(path: Path, scaling: str = "auto", baseline: str | None = None) -> Report:
    """Return one row per point of a table; equal rows are repeats, each group has its own baseline.

    Raises SpecError naming file, line and column of what cannot be read.
    """
    table = read_table(path)
    points = points_of(str(path), table.measures[0], table.rows, scaling, baseline)
    return Report(points=points, warnings=[*table.warnings, *_lone(str(path), table.rows, points)])


def points_of(
    where: str, measure: str, rows: Iterable[Row], scaling: str = "auto", baseline: str | None = None
) -> list[ScalingPoint]:
    """Return one row per point of measured figures; `where` names them in errors. See `table_report`."""
    found = []
    for kind, points in _groups(list(rows), measure, scaling):
        base = points[_baseline(where, sorted(points), baseline)]
        try:
            found += [_point(points[place], base, measure, kind) for place in sorted(points)]
        except OverflowError:
            raise SpecError(f"{where}: repeats of {measure} are too far apart to be compared") from None
    return found


def _groups(rows: list[Row], measure: str, scaling: str) -> list[tuple[str, dict[Place, list[Row]]]]:
    """Return what is compared, by ranks and nodes, and the kind of scaling that it shows.

    Where the global batch is told and nothing else is said, the kind is the one that leaves fewer points alone.
    """
    kind = MEASURES[measure][1] if scaling == "auto" else scaling
    groups = _alike(rows, kind)
    other = "weak" if kind == "strong" else "strong"
    if scaling == "auto" and any(row.global_batch is not None for row in rows):
        switched = _alike(rows, other)
        if _alone(switched) < _alone(groups):
            return [(other, points) for points in switched]
    return [(kind, points) for points in groups]


def _alike(rows: Iterable[Row], kind: str) -> list[dict[Place, list[Row]]]:
    groups: dict[Group, dict[Place, list[Row]]] = {}
    for row in rows:
        batch = row.batch
        if row.global_batch is not None:
            batch = f"{row.global_batch:g} in all" if kind == "strong" else f"{row.batch_per_rank:g}"
        group = (row.strategy, batch, row.model, row.data)
        groups.setdefault(group, {}).setdefault(row.place, []).append(row)
    return list(groups.values())


def _alone(groups: Sequence[Mapping[Place, list[Row]]]) -> int:
    return sum(len(points) == 1 for points in groups)


def _baseline(where: str, places: list[Place], asked: str | None) -> Place:
    if asked is None:
        return places[0]
    found = [place for place in places if str(place[0]) == asked]
    if not found:
        known = ", ".join(str(ranks) for ranks, _ in places)
        raise SpecError(f"{where}: --baseline {asked} is not a number of ranks of every group; one has {known}")
    return found[0]


def _lone(where: str, rows: Sequence[Row], points: Sequence[ScalingPoint]) -> list[str]:
    """Return a warning where batches leave points without any other to compare them with."""
    found = []
    for family in families(rows):
        groups = _alike(family, points[0].scaling)
        alone = [next(iter(group.values()))[0] for group in groups if len(group) == 1]
        if alone and len({row.place for row in family}) > 1:
            names = ", ".join(f"batch {row.batch or format(row.global_batch, 'g')} on {row.ranks}" for row in alone[:3])
            found.append(
                f"{where}: compared with nothing, as no other number of ranks has that batch: {names}"
                f"{', ...' if len(alone) > 3 else ''}"
            )
    return found


def _update_batch(row: Row) -> float | None:
    """Return the samples of one update of the model, where strategy and batch tell them."""
    if row.strategy.partition("+")[0] not in STRATEGIES:
        return None
    return update_batch(row.strategy, row.ranks, row.nodes, row.batch_per_rank)


class _Figures:
    """The repeats of a point: geometric means of what was measured."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def of(self, measure: str, convert: Callable[[float], float] = float) -> Estimate | None:
        """Return a measure over the repeats that tell it, or None."""
        values = [convert(row.values[measure]) for row in self._rows if measure in row.values]
        return of_repeats(values) if values else None

    @property
    def step_time(self) -> Estimate | None:
        """Seconds of a step; the rate of workers that do not wait for one another tells nothing of one's step."""
        if self._rows[0].strategy.partition("+")[0] in ASYNCHRONOUS:
            return self.of("step_time_s")
        return self.of("step_time_s") or self.of("steps_per_s", lambda rate: 1 / rate)

    @property
    def throughput(self) -> Estimate | None:
        """Samples per second."""
        batch = _update_batch(self._rows[0])
        return self.of("images_per_s") or (None if batch is None else self.of("steps_per_s", lambda rate: rate * batch))

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy."""
        known = [row.accuracy for row in self._rows if row.accuracy is not None]
        return sum(known) / len(known) if known else None


def _ends(estimate: Estimate | None) -> tuple[float | None, float | None]:
    return (None if estimate is None else estimate.interval()) or (None, None)


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _rate(rows: list[Row], measure: str, kind: str) -> Estimate:
    """Return what speedup is the ratio of: work per second."""
    smaller_is_better, _ = MEASURES[measure]
    work = rows[0].ranks if measure == "step_time_s" and kind == "weak" else 1
    return of_repeats([work / row.values[measure] if smaller_is_better else row.values[measure] for row in rows])


def _point(rows: list[Row], base: list[Row], measure: str, kind: str) -> ScalingPoint:
    first, growth, figures = rows[0], rows[0].ranks / base[0].ranks, _Figures(rows)
    gain = Estimate(1.0, 0.0, 1.0) if rows is base else ratio(_rate(rows, measure, kind), _rate(base, measure, kind))
    low, high = _ends(gain)
    step_time, throughput = figures.step_time, figures.throughput
    (fast, slow), (least, most) = _ends(step_time), _ends(throughput)
    batch = first.batch_per_rank
    return ScalingPoint(
        strategy=first.strategy,
        engine="",
        model=first.model,
        data=first.data,
        nodes=first.nodes,
        ranks=first.ranks,
        baseline_strategy=base[0].strategy,
        baseline_ranks=base[0].ranks,
        scaling=kind,
        batch_per_rank=batch,
        global_batch=first.global_batch,
        settings="",
        repeats=len(rows),
        steps=None,
        warmup_steps=None,
        step_time_s=_value(step_time),
        step_time_s_low=fast,
        step_time_s_high=slow,
        epoch_time_s=_value(figures.of("epoch_time_s")),
        train_time_h=_value(figures.of("train_time_h")),
        steps_per_s=_value(figures.of("steps_per_s")),
        throughput=_value(throughput),
        throughput_low=least,
        throughput_high=most,
        run_throughput=None,
        pause_s=None,
        speedup=gain.value,
        speedup_low=low,
        speedup_high=high,
        efficiency=gain.value / growth,
        efficiency_low=None if low is None else low / growth,
        efficiency_high=None if high is None else high / growth,
        start_up_s=None,
        accuracy=figures.accuracy,
        staleness_mean=None,
        staleness_p95=None,
        dropped=None,
        flags="" if len(rows) > 1 else "one-repeat",
    )
