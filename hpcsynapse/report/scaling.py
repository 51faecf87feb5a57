"""Speedup and efficiency of runs against their baselines.

Strong scaling: the points of a group have the same global batch; speedup = T(baseline) / T(n), where T is the epoch
time if every run of the group recorded a full epoch, else the step time. Weak scaling: the same batch per rank;
speedup = throughput(n) / throughput(baseline). Asynchronous strategies are compared by throughput in either case,
as the step of a worker is not a step of the whole. Always efficiency = speedup / (ranks / baseline ranks).

A group is what shares strategy, engine, model and data; runs that differ in optimizer, device or threads are kept
apart with a warning. The baseline of a group is the `single` run of the same model, data, conditions and batch where
there is one, else the group's smallest number of ranks. Any other strategy can take the place of `single`: then all
groups refer to its smallest number of ranks, of their own engine where it ran on that, so that a strategy which is slow
already on one rank does not look good for staying so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hpcsynapse.errors import SpecError
from hpcsynapse.report.intervals import Estimate, ratio
from hpcsynapse.report.loading import LoadedRun
from hpcsynapse.report.points import Measured, Point, ScalingPoint

SINGLE = "single"
KINDS = ("strong", "weak")
Series = tuple[str, str, str, str, str, str, str]  # strategy, engine, model, data; then the conditions
_CONDITIONS = ("optimizer", "hardware", "threads")


@dataclass(frozen=True, slots=True)
class Compared:
    """Points that may be compared, their baseline, and whether that shows strong or weak scaling."""

    baseline: Point
    points: tuple[Point, ...]
    kind: str


@dataclass(slots=True)
class Report:
    """The rows of a report and what their reader has to be told."""

    points: list[ScalingPoint] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)


def scaling_report(runs: Iterable[LoadedRun], scaling: str = "auto", baseline: str | None = None) -> Report:
    """Return one row per point of the runs.

    `scaling` is auto, strong or weak; `baseline` the name of a run, a number of ranks, or a strategy.
    Raises SpecError where strong and weak scaling cannot be told apart, or the baseline is not among the runs.
    """
    series = _series(runs)
    report = Report(warnings=_unlike(list(series)))
    singles = {key: points for key, points in series.items() if key[0] == SINGLE}
    common = SINGLE
    if baseline in {key[0] for key in series}:
        common, baseline = str(baseline), None
    commons = {key: points for key, points in series.items() if key[0] == common}
    used: dict[int, str] = {}
    asked = _Baseline(baseline, [name for points in series.values() for point in points for name in point.names])
    for key, points in series.items():
        if key[0] == SINGLE == common:
            continue
        partners = [] if key[0] == common else _partners(key, points, commons, report.warnings)
        kind = scaling if scaling != "auto" else _detect(key, points, partners)
        matching = 0
        for batch in dict.fromkeys(_batch(kind)(point) for point in points):
            own = [point for point in points if _batch(kind)(point) == batch]
            baselines = [point for point in partners if _batch(kind)(point) == batch]
            matching += len(baselines)
            used.update({id(point): kind for point in baselines})
            report.compared.append(Compared(asked.choose(baselines, own, report.warnings), tuple(own), kind))
        if partners and not matching:
            report.warnings.append(_no_match(kind, points, partners))
    kinds = set(used.values())
    lone = kinds.pop() if len(kinds) == 1 else scaling if scaling != "auto" else "strong"
    for point in itertools.chain(*singles.values()) if common == SINGLE else ():
        report.compared.append(Compared(point, (point,), used.get(id(point), lone)))
    asked.check_used([point for points in singles.values() for point in points])
    report.points = sorted((row for one in report.compared for row in rows_of(one)), key=_order)
    return report


def _series(runs: Iterable[LoadedRun]) -> dict[Series, list[Point]]:
    """Gather repeats into points and points into series, in the order of the runs."""
    found: dict[Series, dict[tuple[int, int, float], list[Measured]]] = {}
    for run in runs:
        about, measured = run.about, Measured(run)
        key = (about.strategy, about.engine, about.model, about.data, about.optimizer, about.hardware, about.threads)
        where = (about.ranks, about.nodes, measured.global_batch)
        found.setdefault(key, {}).setdefault(where, []).append(measured)
    return {key: [Point(tuple(repeats)) for repeats in points.values()] for key, points in found.items()}


def _unlike(keys: list[Series]) -> list[str]:
    warnings = []
    for index, key in enumerate(keys):
        for other in keys[:index]:
            if key[:4] == other[:4]:
                warnings.append(f"{_title(key)}: runs with different {_difference(key, other)} are reported apart")
    return list(dict.fromkeys(warnings))


def _difference(one: Series, other: Series) -> str:
    parts = zip(_CONDITIONS, one[4:], other[4:], strict=True)
    return ", ".join(f"{name} ({a or 'unknown'} and {b or 'unknown'})" for name, a, b in parts if a != b)


def _title(key: Series) -> str:
    return " / ".join(part for part in key[:4] if part) or "runs"


def _partners(key: Series, points: list[Point], commons: dict[Series, list[Point]], warnings: list[str]) -> list[Point]:
    """Return the points of the common strategy that may be the baseline of a series."""
    found: list[Point] = []
    same_engine = any(other[1:] == key[1:] for other in commons)
    for other, candidates in commons.items():
        if other[2:] == key[2:]:
            fewest = min(point.ranks for point in candidates)
            chosen = [point for point in candidates if point.ranks == fewest]
            found += chosen if other[1] == key[1] or not same_engine else []
        elif other[2:4] == key[2:4]:
            warnings.append(
                f"{_title(key)}: run {candidates[0].names[0]!r} is not its baseline, "
                f"as they differ in {_difference(other, key)}"
            )
    return found


def _batch(kind: str) -> Callable[[Point], float]:
    return (lambda point: point.global_batch) if kind == "strong" else (lambda point: point.batch_per_rank)


def _detect(key: Series, points: list[Point], partners: list[Point]) -> str:
    """Return strong or weak, whichever the batch sizes of a series show; raises SpecError with the sizes if neither."""
    if len({point.ranks for point in points}) > 1:
        kinds = [kind for kind in KINDS if len({_batch(kind)(point) for point in points}) == 1]
    else:  # one number of ranks, or a lone one beside its single-process baseline
        kinds = [kind for kind in KINDS if {_batch(kind)(a) for a in points} & {_batch(kind)(b) for b in partners}]
        same = len({point.ranks for point in [*points, *partners]}) == 1  # then strong and weak mean the same
        if len(kinds) != 1 and (not partners or same or all(point.ranks == 1 for point in points)):
            return "strong"
    if len(kinds) == 1:
        return kinds[0]
    why = (
        "both an equal global batch and an equal batch per rank are there"
        if kinds
        else ("neither the global batch nor the batch per rank is the same")
    )
    sizes = "; ".join(_size(point) for point in [*partners, *points][:6])
    raise SpecError(f"{_title(key)}: strong or weak scaling? {why} ({sizes}); say --scaling strong or --scaling weak")


def _size(point: Point) -> str:
    return f"{point.names[0]}: {point.ranks} x {point.batch_per_rank:g} = {point.global_batch:g}"


def _no_match(kind: str, points: list[Point], partners: list[Point]) -> str:
    batch = "global batch" if kind == "strong" else "batch per rank"
    return (
        f"{_size(partners[0])} is no baseline for {kind} scaling, as no other point has its {batch} "
        f"({_size(points[0])}); the smallest number of ranks is used"
    )


class _Baseline:
    """What the user asked to compare with, if anything."""

    def __init__(self, asked: str | None, names: Sequence[str]) -> None:
        self.name = asked if asked in names else None
        self.ranks: int | None = None
        self.asked, self.found = asked, asked is None
        if asked is not None and self.name is None:
            if not asked.isdecimal():
                raise SpecError(f"--baseline {asked!r} is neither one of the runs reported nor a number of ranks")
            self.ranks = int(asked)

    def _is_asked(self, point: Point) -> bool:
        return self.name in point.names if self.name is not None else point.ranks == self.ranks

    def choose(self, singles: list[Point], own: list[Point], warnings: list[str]) -> Point:
        """Return the baseline of points that may be compared."""
        smallest = min(singles or own, key=lambda point: (point.ranks, point.nodes))
        if self.asked is None:
            return smallest
        for point in [*singles, *own]:
            if self._is_asked(point):
                self.found = True
                return point
        warnings.append(
            f"--baseline {self.asked}: not comparable with {own[0].names[0]!r}, whose baseline is {smallest.names[0]!r}"
        )
        return smallest

    def check_used(self, singles: list[Point]) -> None:
        """Raise SpecError when no point is the one asked for."""
        if not self.found and not any(self._is_asked(point) for point in singles):
            raise SpecError(f"--baseline {self.asked}: no point that can be compared has that name or number of ranks")


def rows_of(one: Compared) -> list[ScalingPoint]:
    """Return a row for every point, in their order."""
    together = [one.baseline, *one.points]
    if one.kind == "weak" or any(point.asynchronous for point in together):
        quantity = "throughput"
    else:
        quantity = "epoch_time" if all(point.epochs_measured for point in together) else "step_time"
    return [_row(point, one.baseline, one.kind, quantity) for point in one.points]


def _speedup(point: Point, baseline: Point, quantity: str) -> tuple[float, tuple[float, float] | None]:
    if point is baseline:
        return 1.0, (1.0, 1.0)
    pair = (point, baseline) if quantity == "throughput" else (baseline, point)
    gain: Estimate = ratio(pair[0].estimate(quantity), pair[1].estimate(quantity))
    return gain.value, gain.interval()


def _row(point: Point, baseline: Point, kind: str, quantity: str) -> ScalingPoint:
    about = point.first.run.about
    speedup, ends = _speedup(point, baseline, quantity)
    # For an asynchronous run the variation known within a run is that of its rate, not of a worker's step.
    step_ends = None if point.asynchronous and len(point.repeats) == 1 else point.estimate("step_time").interval()
    low, high = ends or (None, None)
    step_low, step_high = step_ends or (None, None)
    rate_low, rate_high = point.estimate("throughput").interval() or (None, None)
    growth = point.ranks / baseline.ranks
    return ScalingPoint(
        strategy=about.strategy,
        engine=about.engine,
        model=about.model,
        data=about.data,
        nodes=point.nodes,
        ranks=point.ranks,
        baseline_strategy=baseline.first.run.about.strategy,
        baseline_ranks=baseline.ranks,
        scaling=kind,
        batch_per_rank=_plain(point.batch_per_rank),
        global_batch=_plain(point.global_batch),
        repeats=len(point.repeats),
        steps=sum(measured.steps for measured in point.repeats),
        warmup_steps=sum(measured.warmup_steps for measured in point.repeats),
        step_time_s=point.average("step_time"),
        step_time_s_low=step_low,
        step_time_s_high=step_high,
        epoch_time_s=point.average("epoch_time"),
        throughput=point.average("throughput"),
        throughput_low=rate_low,
        throughput_high=rate_high,
        speedup=speedup,
        speedup_low=low,
        speedup_high=high,
        efficiency=speedup / growth,
        efficiency_low=None if low is None else low / growth,
        efficiency_high=None if high is None else high / growth,
        start_up_s=point.mean_of("start_up_s"),
        accuracy=point.mean_of("accuracy"),
        flags=point.flags(),
    )


def _plain(value: float) -> float:
    """Return a whole number as int, so that a batch of 64 is written as 64."""
    return int(value) if value == int(value) else value


def _order(row: ScalingPoint) -> tuple[object, ...]:
    batch = row.global_batch if row.scaling == "strong" else row.batch_per_rank
    return (row.strategy != SINGLE, row.model, row.data, row.strategy, row.engine, row.scaling, batch or 0,
            row.ranks, row.nodes or 0)  # fmt: skip
