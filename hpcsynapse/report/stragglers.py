"""Ranks that are slower than the others, by what they need before the collective.

A collective makes every rank's step, and what is spent in it, look equally long: who came late is seen only before it.
The time before the collective is a step without `communicate` and `update` (rank 0 alone may have an update to make,
and a slow device shows in forward and backward as well), per sample. Where ranks do not wait for one another
(asynchronous strategies) the whole step is compared, so that a slow link shows too.

The measured steps are cut into BLOCKS equal blocks. A rank's excess is the geometric mean over blocks of its mean time
/ the median of the other ranks' mean times, less 1; its 95 % interval is Student's, on logarithms. A rank counts as
slow when the whole interval lies above EXCESS and what it needs more is at least IMPACT of a step. So a single hiccup,
or too few steps for an interval (fewer than 30), make nobody slow. At least half of the ranks must be fast: where most
are slow the others look fast. A link that is slow for everybody makes no rank slow; it is communication in why.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.intervals import BLOCKS, MIN_BLOCK, Estimate
from hpcsynapse.report.loading import LoadedRun, each_rank
from hpcsynapse.report.points import Measured, column
from hpcsynapse.report.sums import Records
from hpcsynapse.timing import WARMUP

EXCESS = 0.10
IMPACT = 0.05
_BEFORE = ("data", "forward", "backward")
_ALL = (*_BEFORE, "communicate", "update")
_ROLES = ("admm",)  # strategies whose ranks have different work to do
_TINY = 1e-9  # seconds: shorter than any clock tells
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTime:
    """One rank of one run; the fields, in this order, are the columns. None: not known."""

    run: str = column("name of the run")
    rank: int = column("rank")
    host: str = column("host that the rank ran on")
    device: str = column("device that the rank was given, as the queue names it")
    device_name: str = column("what kind of device that is")
    before_s: float = column("mean time of a step before the collective; asynchronous: whole step")
    excess: float = column("how much longer that is than the median of the other ranks, a fraction")
    excess_low: float | None = column("lower end of its 95 % interval")
    excess_high: float | None = column("upper end of its 95 % interval")
    phase: str = column("where most of the difference is: data, forward, backward, communicate, update or other")
    last: float | None = column("fraction of the steps in which this rank was the last one")
    delay_s: float | None = column("by how much a mean step would be shorter without this rank")
    slow: bool = column(f"whether the interval lies above {EXCESS:.0%} and the difference is {IMPACT:.0%} of a step")

    def sentence(self) -> str:
        """Return what is to be said of a slow rank."""
        device = f", device {self.device}" if self.device else ""
        last = "" if self.last is None else f", last in {self.last:.0%} of the steps"
        return (f"rank {self.rank} on {self.host}{device}: {self.excess:.0%} longer than the others before the "
                f"collective, mostly in {self.phase}{last}")  # fmt: skip


COLUMNS: dict[str, str] = {item.name: item.metadata["meaning"] for item in dataclasses.fields(RankTime)}


@dataclass
class _Rank:
    """What is kept of a rank: its header, mean times of its blocks and of its phases, and of its whole step (s)."""

    header: Mapping[str, Any]
    blocks: Floats
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
    for header, mine in _measured(run):
        spent, phases = _times(mine, run.about.asynchronous, batch)
        if len(spent):
            edges = np.linspace(0, len(spent), min(BLOCKS, len(spent)) + 1).astype(np.int64)
            blocks = np.add.reduceat(spent, edges[:-1]) / np.diff(edges)
            found.append(_Rank(header, blocks, phases, float(mine["total"].mean(dtype=np.float64))))
            finish.add(len(found) - 1, spent)
    if len(found) < 2 or len({len(one.blocks) for one in found}) > 1:
        return []
    enough = (run.worker_steps if run.about.asynchronous else len(finish.first)) >= BLOCKS * MIN_BLOCK
    return sorted(_compare(run, found, finish, enough), key=lambda one: one.rank)


def _measured(run: LoadedRun) -> Iterator[tuple[dict[str, Any], Records]]:
    """Yield every rank's records of the measured steps: in lock-step those that all ranks recorded."""
    steps = run.step[Measured(run).keep] if not run.about.asynchronous else np.empty(0)
    for header, records in each_rank(run.source):
        if run.about.asynchronous:
            cold = records[(records["flags"] & WARMUP) == 0]
            yield header, cold if len(cold) else records
        elif np.array_equal(records["step"][-len(steps) :], steps):  # nearly always: all but warm-up at the beginning
            yield header, records[-len(steps) :]
        else:
            yield header, records[np.searchsorted(records["step"], steps)]


def _times(mine: Records, asynchronous: bool, batch: float) -> tuple[Floats, Floats]:
    """Return what a rank needed for `batch` samples in every step (s), and the means of its phases and of the rest."""
    names = _ALL if asynchronous else _BEFORE
    spent = mine["total"].astype(np.float64)
    if not asynchronous:
        spent -= mine["communicate"].astype(np.float64) + mine["update"]
    phases = np.stack([mine[name].astype(np.float64) for name in names])
    found = np.vstack((spent, phases, spent - phases.sum(axis=0)))
    samples = mine["samples"].astype(np.float64)
    if len(mine) and samples.min() > 0:  # a rank with more to do is not slow
        found *= batch / samples
    found = np.nan_to_num(np.maximum(found, 0.0), posinf=0.0)
    return found[0], found[1:].mean(axis=1) if len(mine) else np.zeros(len(names) + 1)


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
    blocks, phases = np.array([one.blocks for one in found]), np.array([one.phases for one in found])
    others, usual = median_of_others(blocks), median_of_others(phases)
    logs = np.log(np.maximum(blocks, _TINY) / np.maximum(others, _TINY))
    names = (*(_ALL if run.about.asynchronous else _BEFORE), "other")
    for index, one in enumerate(found):
        freedom = len(logs[index]) - 1 if enough else 0
        variance = float(logs[index].var(ddof=1)) / len(logs[index]) if enough else 0.0
        excess = Estimate(float(np.exp(logs[index].mean())), variance, freedom)
        low, high = excess.interval() or (None, None)
        more = float(blocks[index].mean() - others[index].mean())
        last, delay = finish.of(index)
        yield RankTime(
            run=run.about.name,
            rank=one.header["rank"],
            host=str(one.header.get("host", "")),
            device=str(one.header.get("device", "")),
            device_name=str(one.header.get("device_name", "")),
            before_s=float(blocks[index].mean()),
            excess=excess.value - 1,
            excess_low=None if low is None else low - 1,
            excess_high=None if high is None else high - 1,
            phase=names[int(np.argmax(phases[index] - usual[index]))],
            last=last,
            delay_s=delay,
            slow=low is not None and low - 1 > EXCESS and more >= IMPACT * one.step,
        )


def median_of_others(values: Floats) -> Floats:
    """Return for every row the median of all other rows, column by column; shape (rows >= 2, columns)."""
    rows = len(values)
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    place = np.argsort(order, axis=0, kind="stable")  # where a row stands among all
    result = np.zeros_like(values)
    for middle in {(rows - 2) // 2, (rows - 1) // 2}:
        # The element of that number among the others: one further where this row itself stands before it.
        result += np.take_along_axis(ordered, middle + (place <= middle), axis=0)
    return np.asarray(result / len({(rows - 2) // 2, (rows - 1) // 2}))
