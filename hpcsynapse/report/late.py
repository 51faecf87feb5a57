"""Which of several like series are longer than the others, and since when: the judgement behind stragglers.py.

The measured steps of every rank are cut into COUNT equal blocks. A rank's excess is the geometric mean over blocks of
its time / the median of the other ranks' times, less 1. It is looked at over the whole run, and, for a rank that
becomes slow on the way, from every block to the end (_FIRST blocks before it, _LAST in it at least), of which the one
with the highest lower end counts; each by the means of blocks, which see work done now and then, and by their medians,
which single slow steps do not disturb.

A rank is slow when the lower end of its interval lies above EXCESS. The interval is Student's on logarithms, at
0.025 / (ranks x looks) on either side, so that it holds for all of them together; its variance is that of the rank's
own blocks before and after the change, or of the median rank, whichever is larger; where steps resemble those before
them (`memory`, median over ranks), it is put right as in intervals.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.intervals import LEVEL, t_quantile
from hpcsynapse.report.shape import NONE, Memory

EXCESS = 0.10
COUNT = 12
_FIRST, _LAST = 2, 4
_CHANGES = range(_FIRST, COUNT - _LAST + 1)
_TESTS = 2 * (1 + len(_CHANGES))
_TINY = 1e-9  # seconds: shorter than any clock tells
_LONGEST = 0.98  # correlation beyond which a series is taken to be
_CHANCE = 2.8  # standard deviations of a correlation of independent values
_CHANGED = 0.5  # of its excess at most that a rank had before it became slow
_LEAST = 0.05  # share of its variance that a series with a memory shows at least
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """Times of one rank by block, means and medians (s), shape (blocks,); the first step of every block.

    `length` is how many steps there are, `memory` the correlation of one with the next.
    """

    means: Floats
    medians: Floats
    steps: npt.NDArray[np.int64]
    length: int
    memory: float


class Late(NamedTuple):
    """How much longer than the others a rank needs (`excess`, a fraction, with its interval; `more` in seconds).

    `block` is the one from which on that is so; `slow` whether the interval lies above EXCESS.
    """

    excess: float
    low: float | None
    high: float | None
    more: float
    block: int
    slow: bool


def series_of(spent: Floats, steps: npt.NDArray[np.int64]) -> Series:
    """Return the blocks of one rank's times (s)."""
    edges = np.linspace(0, len(spent), min(COUNT, len(spent)) + 1).astype(np.int64)
    means = np.add.reduceat(spent, edges[:-1]) / np.diff(edges)
    counts = np.diff(edges)
    ordered = spent[np.lexsort((spent, np.repeat(np.arange(len(counts)), counts)))]  # block by block, at once
    medians = (ordered[edges[:-1] + (counts - 1) // 2] + ordered[edges[:-1] + counts // 2]) / 2
    return Series(means, medians, steps[edges[:-1]].astype(np.int64), len(spent), _memory(spent))


def _memory(spent: Floats) -> float:
    """Return the correlation of logarithms from one step to the next, to first order without bias (Kendall 1954)."""
    logs = np.log(np.maximum(spent, _TINY))
    centred = logs - logs.mean()
    square = float(centred @ centred)
    if square <= 0:
        return 0.0
    found = float(centred[1:] @ centred[:-1]) / square
    return found + (1 + 3 * found) / len(spent)


def late(ranks: Sequence[Series], enough: bool) -> list[Late]:
    """Return what is to be said of every rank; without `enough` steps nobody is slow, and there are no intervals."""
    means, medians = (np.array([getattr(one, kind) for one in ranks]) for kind in ("means", "medians"))
    if not enough or means.shape[1] < COUNT:
        return [Late(*one) for one in _whole(means)]
    known, size = _pooled(ranks), round(ranks[0].length / COUNT)
    found = list(_look(means, 0, known, size))
    for block in (0, *_CHANGES):
        for times in (means, medians):
            for index, one in enumerate(_look(times, block, known, size)):
                if one.slow and _tells_more(one, found[index]):
                    found[index] = one
    return found


def _tells_more(one: Late, known: Late) -> bool:
    """Tell whether a look is to be preferred; means go before medians of the same blocks."""
    return not known.slow or (one.block != known.block and (one.low or 0.0) > (known.low or 0.0))


def _whole(times: Floats) -> Iterator[tuple[float, None, None, float, int, bool]]:
    others = median_of_others(times)
    logs = np.log(np.maximum(times, _TINY) / np.maximum(others, _TINY)).mean(axis=1)
    for excess, more in zip(np.expm1(logs), (times - others).mean(axis=1), strict=True):
        yield float(excess), None, None, float(more), 0, False


def _pooled(ranks: Sequence[Series]) -> Memory:
    """Return the memory of the median rank; none where chance explains it."""
    found = min(float(np.median([one.memory for one in ranks])), _LONGEST)
    chance = _CHANCE / np.sqrt(len(ranks) * ranks[0].length / 2)
    return Memory(1.0, found) if found >= chance else NONE


def _look(times: Floats, block: int, known: Memory, size: int) -> Iterator[Late]:
    """Yield every rank's excess from a block to the end, of blocks of so many steps."""
    others = median_of_others(times)
    logs = np.log(np.maximum(times, _TINY) / np.maximum(others, _TINY))
    before, after = logs[:, :block], logs[:, block:]
    variance = after.var(axis=1) * after.shape[1]
    freedom = after.shape[1] - 1
    if block:
        variance, freedom = variance + before.var(axis=1) * block, freedom + block - 1
    variance = np.maximum(variance, np.median(variance)) / freedom / after.shape[1]
    wide = _quantile(len(times), freedom) * np.sqrt(variance * _factor(known, size, after.shape[1]))
    middle = after.mean(axis=1)
    came = before.mean(axis=1) < _CHANGED * middle if block else np.full(len(times), True)
    more = (times - others)[:, block:].mean(axis=1)
    for value, half, seconds, changed in zip(middle, wide, more, came, strict=True):
        low, high = float(np.expm1(value - half)), float(np.expm1(min(value + half, 700.0)))
        yield Late(float(np.expm1(value)), low, high, float(seconds), block, bool(changed) and low > EXCESS)


def _quantile(ranks: int, freedom: int) -> float:
    return t_quantile(1 - (1 - LEVEL) / 2 / (ranks * _TESTS), freedom)


def _factor(known: Memory, size: int, count: int) -> float:
    """Return by how much the variance of the mean of `count` blocks is larger than their spread lets it seem."""
    if known is NONE:
        return 1.0
    of_block, of_all = known.of_mean(size), known.of_mean(size * count)
    shown = 1 - known.of_mean(size * COUNT) / (COUNT * of_block)
    return max(1.0, of_all / of_block / max(_LEAST, shown))


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
