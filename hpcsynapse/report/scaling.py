"""Speedup and efficiency of runs against their baselines.

Speedup = throughput(n) / throughput(baseline), whatever the strategy: samples by the time that passed, pauses left out.
Strong scaling: the points of a group have the same global batch, so this is T(baseline) / T(n) of a step, or of an
epoch. Weak scaling: the same batch per rank. Always efficiency = speedup / (ranks / baseline ranks).

A group is what shares strategy, engine, model and data; runs that differ in optimizer, device or threads are kept apart
with a warning. Runs that differ in any other setting are different points; where such runs stand at the same number of
ranks and nodes, with the same batch, that setting divides the group. One that follows the ranks (a rate that is scaled
with them, a server for every four workers) does not: it is part of what scales. The baseline of a group is the `single`
run of the same model, data, conditions and batch where there is one, else the group's smallest number of ranks. Any
other strategy can take the place of `single`: then all groups refer to its smallest number of ranks, of their own
engine where it ran on that, so that a strategy which is slow already on one rank does not look good for staying so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.report.compared import Compared, rows_of
from hpcsynapse.report.loading import LoadedRun
from hpcsynapse.report.points import Point, ScalingPoint
from hpcsynapse.report.reduced import Measured
from hpcsynapse.report.varied import chosen, differing, told

SINGLE = "single"
KINDS = ("strong", "weak")
# Strategy, engine, model, data; then the conditions, and behind them the settings that divide.
Series = tuple[Any, ...]
_CONDITIONS = ("optimizer", "hardware", "threads")
_DIVIDED = 4 + len(_CONDITIONS)  # length of a key without those settings


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
            base = asked.choose(baselines, own, report.warnings)
            report.compared.append(Compared(base, tuple(own), kind, told(key[_DIVIDED:])))
        if partners and not matching:
            report.warnings.append(_no_match(kind, points, partners))
    kinds = set(used.values())
    lone = kinds.pop() if len(kinds) == 1 else scaling if scaling != "auto" else "strong"
    for key, points in singles.items() if common == SINGLE else ():
        report.compared += [Compared(one, (one,), used.get(id(one), lone), told(key[_DIVIDED:])) for one in points]
    asked.check_used([point for points in singles.values() for point in points])
    names = differing(point.first.run.about.settings for points in series.values() for point in points)
    rows = [(row, one.settings) for one in report.compared for row in rows_of(one, names)]
    report.points = [row for row, _ in sorted(rows, key=lambda pair: _order(*pair))]
    return report


def _series(runs: Iterable[LoadedRun]) -> dict[Series, list[Point]]:
    """Gather repeats into points and points into series, in the order of the runs."""
    measured = [Measured(run) for run in runs]
    names = differing(one.run.about.settings for one in measured)
    dividing = _dividing(measured)
    found: dict[Series, dict[tuple[Any, ...], list[Measured]]] = {}
    for one in measured:
        settings = one.run.about.settings
        key, point = (*_core(one), *chosen(settings, dividing)), (*_where(one), chosen(settings, names))
        found.setdefault(key, {}).setdefault(point, []).append(one)
    return {key: [Point(tuple(repeats)) for repeats in points.values()] for key, points in found.items()}


def _core(one: Measured) -> Series:
    about = one.run.about
    return about.strategy, about.engine, about.model, about.data, about.optimizer, about.hardware, about.threads


def _where(one: Measured) -> tuple[int, int, float]:
    return one.run.about.ranks, one.run.about.nodes, one.global_batch


def _dividing(measured: Iterable[Measured]) -> list[str]:
    """Return the settings in which runs differ that are otherwise at the same place of the same curve."""
    alike: dict[tuple[Any, ...], list[Measured]] = {}
    for one in measured:
        alike.setdefault((_core(one), _where(one)), []).append(one)
    found = (differing(one.run.about.settings for one in group) for group in alike.values())
    return list(dict.fromkeys(itertools.chain(*found)))


def _agree(one: Series, other: Series) -> bool:
    """Tell whether two series have the same values of the dividing settings that concern both."""
    known = dict(one[_DIVIDED:])
    return all(known.get(name, value) == value for name, value in other[_DIVIDED:])


def _unlike(keys: list[Series]) -> list[str]:
    warnings = []
    for index, key in enumerate(keys):
        for other in keys[:index]:
            if key[:4] == other[:4] and key[4:_DIVIDED] != other[4:_DIVIDED]:
                warnings.append(f"{_title(key)}: runs with different {_difference(key, other)} are reported apart")
    return list(dict.fromkeys(warnings))


def _difference(one: Series, other: Series) -> str:
    parts = zip(_CONDITIONS, one[4:_DIVIDED], other[4:_DIVIDED], strict=True)
    return ", ".join(f"{name} ({a or 'unknown'} and {b or 'unknown'})" for name, a, b in parts if a != b)


def _title(key: Series) -> str:
    return " / ".join(part for part in key[:4] if part) or "runs"


def _partners(key: Series, points: list[Point], commons: dict[Series, list[Point]], warnings: list[str]) -> list[Point]:
    """Return the points of the common strategy that may be the baseline of a series."""
    found: list[Point] = []
    near = {other: points for other, points in commons.items() if _agree(key, other)}
    same_engine = any(other[1:_DIVIDED] == key[1:_DIVIDED] for other in near)
    for other, candidates in near.items():
        if other[2:_DIVIDED] == key[2:_DIVIDED]:
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


def _order(row: ScalingPoint, divided: str) -> tuple[object, ...]:
    batch = row.global_batch if row.scaling == "strong" else row.batch_per_rank
    return (
        row.strategy != SINGLE,
        row.model,
        row.data,
        row.strategy,
        row.engine,
        row.scaling,
        batch or 0,
        divided,
        row.ranks,
        row.nodes or 0,
        row.settings,
    )
