"""Ranks that are slower than the others, by what they need before the collective.

A collective makes every rank's step, and what is spent in it, look equally long: who came late is seen only before it.
The time before the collective is what passed since the step before without marked pauses, `communicate` and `update`
(rank 0 alone may have an update to make, and a slow device shows in forward and backward as well), per sample. Where
ranks do not wait for one another (asynchronous strategies) all of it is compared, so that a slow link shows too.

late.py says which ranks are slow, and since which step: from the beginning, or from a change during the run. What a
slow rank needs more must also be at least IMPACT of a step. At least half of the ranks must be fast: where most are
slow the others look fast. A link that is slow for everybody makes no rank slow; it is communication in why.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.intervals import BLOCKS, MIN_BLOCK
from hpcsynapse.report.late import EXCESS, Late, Series, late, median_of_others, series_of
from hpcsynapse.report.loading import LoadedRun, each_time
from hpcsynapse.report.periods import OwnTime
from hpcsynapse.report.reduced import Measured
from hpcsynapse.table import FRACTION, KEY, SECONDS, column, columns, lower_end, upper_end
from hpcsynapse.timing import WARMUP

IMPACT = 0.05
BETWEEN = "between steps"
_BEFORE = ("data", "forward", "backward")
_ALL = (*_BEFORE, "communicate", "update")
_ROLES = ("admm",)  # strategies whose ranks have different work to do
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTime:
    """One rank of one run; the fields, in this order, are the columns. None: not known."""

    run: str = column("name of the run", priority=KEY, always=True)
    rank: int = column("rank", priority=KEY, always=True)
    host: str = column("host that the rank ran on", priority=8, always=True)
    device: str = column("device that the rank was given, as the queue names it", priority=4)
    device_name: str = column("what kind of device that is", head="kind of device", priority=3)
    before_s: float = column(
        "mean time from the step before to the collective, without marked pauses; asynchronous: to the end of the step",
        head="before collective",
        unit=SECONDS,
        priority=6,
    )
    excess: float = column(
        "how much longer that is than the median of the other ranks, a fraction; of a slow rank: since it is slow",
        head="longer by",
        unit=FRACTION,
        interval=True,
        priority=KEY,
        always=True,
    )
    excess_low: float | None = lower_end()
    excess_high: float | None = upper_end()
    phase: str = column(
        "where most of the difference is: data, forward, backward, communicate, update, other or between steps",
        head="mostly in",
        priority=7,
        always=True,
    )
    last: float | None = column(
        "fraction of the steps in which this rank was the last one", head="last in", unit=FRACTION
    )
    delay_s: float | None = column("by how much a mean step would be shorter without this rank", unit=SECONDS)
    slow: bool = column(
        f"whether the interval lies above {EXCESS:.0%} and the difference is {IMPACT:.0%} of a step",
        priority=8,
        always=True,
    )
    since_step: int | None = column(
        "step from which on a slow rank is slow, if it was not from the first measured step on",
        head="since step",
        priority=7,
    )

    def sentence(self) -> str:
        """Return what is to be said of a slow rank."""
        device = f", device {self.device}" if self.device else ""
        since = "" if self.since_step is None else f" since step {self.since_step}"
        last = "" if self.last is None else f", last in {self.last:.0%} of the steps"
        return (
            f"rank {self.rank} on {self.host}{device}: {self.excess:.0%} longer than the others before the "
            f"collective{since}, mostly in {self.phase}{last}"
        )


COLUMNS = columns(RankTime)


@dataclass
class _Rank:
    """What is kept of a rank: its header, its times by block, means of its phases and of its whole step (s)."""

    header: Mapping[str, Any]
    series: Series
    phases: Floats
    step: float


def rank_times(run: LoadedRun) -> list[RankTime]:
    """Return all ranks of a run by number, empty where they cannot be compared; its records are read once more.

    Records are read rank by rank: memory grows with steps and with ranks, not with their product.
    """
    if run.about.ranks < 2 or run.about.strategy.partition("+")[0] in _ROLES:
        return []
    finish = _Finish(0 if run.about.asynchronous else int(Measured(run).keep.sum()))
    found, batch = [], Measured(run).global_batch / run.about.ranks
    for header, mine, period in _measured(run):
        spent, phases = _times(mine, period, run.about.asynchronous, batch)
        if len(spent):
            whole = float(np.maximum(period, mine["total"]).mean())
            found.append(_Rank(header, series_of(spent, mine["step"]), phases, whole))
            finish.add(len(found) - 1, spent)
    if len(found) < 2 or len({one.series.means.shape for one in found}) > 1:
        return []
    enough = (run.worker_steps if run.about.asynchronous else len(finish.first)) >= BLOCKS * MIN_BLOCK
    return sorted(_compare(run, found, finish, enough), key=lambda one: one.rank)


def without_phases(run: LoadedRun) -> list[str]:
    """Return what is to be said of a run whose steps tell no phases: nobody can be named in it."""
    if run.about.ranks < 2 or run.about.asynchronous or Measured(run).has_phases:
        return []
    return [
        f"{run.about.name}: its steps record no phases, so no slow rank can be named and all is `other`; "
        'mark them: step.mark("forward"), step.mark("communicate")'
    ]


def _measured(run: LoadedRun) -> Iterator[tuple[dict[str, Any], Any, Floats]]:
    """Yield every rank's records of the measured steps and their periods: in lock-step of those that all recorded."""
    steps = run.step[Measured(run).keep] if not run.about.asynchronous else np.empty(0)
    for header, own in each_time(run.source):
        chosen = _chosen(own, steps, run.about.asynchronous)
        yield header, own.records[chosen], own.period[chosen]


def _chosen(own: OwnTime, steps: Any, asynchronous: bool) -> Any:
    records = own.records
    if asynchronous:
        cold = (records["flags"] & WARMUP) == 0
        return cold if cold.any() else slice(None)
    if np.array_equal(records["step"][-len(steps) :], steps):  # nearly always: all but warm-up at the beginning
        return slice(len(records) - len(steps), None)
    return np.searchsorted(records["step"], steps)


def _times(mine: Any, period: Floats, asynchronous: bool, batch: float) -> tuple[Floats, Floats]:
    """Return what a rank needed for `batch` samples in every step (s), and the means of its phases and of the rest.

    The rest lies in the step (other), and between the steps.
    """
    names = _ALL if asynchronous else _BEFORE
    inside = mine["total"].astype(np.float64)
    if not asynchronous:
        inside -= mine["communicate"].astype(np.float64) + mine["update"]
    between = np.maximum(period - mine["total"], 0.0)
    phases = np.stack([mine[name].astype(np.float64) for name in names])
    found = np.vstack((inside + between, phases, inside - phases.sum(axis=0), between))
    samples = mine["samples"].astype(np.float64)
    if len(mine) and samples.min() > 0:  # a rank with more to do is not slow
        found *= batch / samples
    found = np.nan_to_num(np.maximum(found, 0.0), posinf=0.0)
    return found[0], found[1:].mean(axis=1) if len(mine) else np.zeros(len(names) + 2)


class _Finish:
    """Who was last in every step, taken up rank by rank."""

    def __init__(self, steps: int) -> None:
        self.first, self.second = np.zeros(steps), np.zeros(steps)  # the longest time, and the next to it
        self.who = np.full(steps, -1)

    def add(self, rank: int, spent: Floats) -> None:
        """Add the times of a rank."""
        if len(self.who):
            later = spent > self.first
            self.second = np.where(later, self.first, np.maximum(self.second, spent))
            self.first = np.where(later, spent, self.first)
            self.who[later] = rank

    def of(self, rank: int) -> tuple[float | None, float | None]:
        """Return the fraction of steps in which a rank was last, and the mean time (s) lost to it alone."""
        if not len(self.who):
            return None, None
        mine = self.who == rank
        return float(mine.mean()), float(np.where(mine, self.first - self.second, 0.0).mean())


def _compare(run: LoadedRun, found: list[_Rank], finish: _Finish, enough: bool) -> Iterator[RankTime]:
    phases = np.array([one.phases for one in found])
    usual = median_of_others(phases)
    names = (*(_ALL if run.about.asynchronous else _BEFORE), "other", BETWEEN)
    judged = late([one.series for one in found], enough)
    for index, (one, seen) in enumerate(zip(found, judged, strict=True)):
        slow = seen.slow and seen.more >= IMPACT * one.step
        last, delay = finish.of(index)
        yield RankTime(
            run=run.about.name,
            rank=one.header["rank"],
            host=str(one.header.get("host", "")),
            device=str(one.header.get("device", "")),
            device_name=str(one.header.get("device_name", "")),
            before_s=float(one.series.means.mean()),
            excess=seen.excess,
            excess_low=seen.low,
            excess_high=seen.high,
            phase=names[int(np.argmax(phases[index] - usual[index]))],
            last=last,
            delay_s=delay,
            slow=slow,
            since_step=_since(one.series, seen) if slow else None,
        )


def _since(series: Series, seen: Late) -> int | None:
    return int(series.steps[seen.block]) if seen.block else None
