"""The shape of a series of step periods: what a mean and its interval do not tell, and what they cannot hold.

Thresholds were chosen on generated series: each remark is silent in 99 of 100 runs of ordinary noise (to 10 %, also
where one step resembles the next), and speaks in nine of ten whose interval misses. tests/unit/report/
test_true_rates_flags.py holds both.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SLOW_STEPS = 0.02  # least by which the mean is above the median
TREND = 0.01  # least change from the first to the last third
_CERTAIN = 3.3  # standard deviations: p < 0.001
_BATCH, _BATCHES = 5, 80
_SPREAD = 1.4826  # standard deviations in a median absolute deviation, of a normal distribution
_SLOW = 6.0  # standard deviations above the median
_CHANCE = 2.8  # standard deviations of a correlation of independent values
_LONGEST = 0.98  # correlation from step to step beyond which a series is taken to be
_APART = 5  # a block of so many independent steps' worth resembles the next one little
_RECUR = 4  # slow steps at equal distances that make a cycle


def excess(period: Floats) -> float:
    """Return by which fraction the mean period is above the typical one, the median."""
    return float(period.mean() / np.median(period)) - 1


def slow_steps(period: Floats) -> float | None:
    """Return that fraction where single slow steps make it, and None where noise explains it."""
    found = excess(period)
    noise = 1.2533 * deviation(period) / float(np.median(period)) / math.sqrt(len(period))
    return found if found >= SLOW_STEPS and found >= _CERTAIN * noise else None


def deviation(values: Floats) -> float:
    """Return the standard deviation that the middle half of some values shows: outliers do not count."""
    return _SPREAD * float(np.median(np.abs(values - np.median(values))))


class Memory(NamedTuple):
    """How values resemble those before them: the correlation over k steps is `share` * `decay` ** k."""

    share: float
    decay: float

    @property
    def steps(self) -> float:
        """For how many independent steps' worth a value counts: (1 + r) / (1 - r) of a first-order autoregression."""
        return 1 + 2 * self.share * self.decay / (1 - self.decay)

    def of_mean(self, count: int) -> float:
        """Return by how much the variance of the mean of so many steps is larger than were they independent."""
        decay = self.decay
        return 1 + 2 * self.share * (decay / (1 - decay) - decay * (1 - decay**count) / (count * (1 - decay) ** 2))


NONE = Memory(0.0, 0.0)


def memory(values: Floats) -> Memory:
    """Return the memory of a series from its correlations over one and two steps; none where chance explains them."""
    count, centred = len(values), values - values.mean()
    square = float(centred @ centred)
    if square <= 0 or count < 4:
        return NONE
    seen = (float(centred[lag:] @ centred[:-lag]) / square for lag in (1, 2))
    first, second = (value + (1 + 3 * value) / count for value in seen)  # to first order without bias (Kendall 1954)
    if first < _CHANCE / math.sqrt(count):
        return NONE
    decay = min(max(second / first, first), _LONGEST)
    return Memory(first / decay, decay)


def correlated(known: Memory, block: int) -> bool:
    """Tell whether steps are correlated over too large a part of a block for block means to be independent."""
    return known is not NONE and block < _APART * known.steps


def trend(period: Floats) -> bool:
    """Tell whether periods become longer or shorter over the run: Kendall's rank correlation of batches with time."""
    size = max(_BATCH, len(period) // _BATCHES)
    count = len(period) // size
    if count < 2 * 3:
        return False
    batches = np.median(period[len(period) - count * size :].reshape(count, size), axis=1)
    third = count // 3
    change = abs(float(np.median(batches[-third:]) / np.median(batches[:third])) - 1)
    if change < TREND:
        return False
    score = float(np.sign(batches[None, :] - batches[:, None])[np.triu_indices(count, 1)].sum())
    return abs(score) > _CERTAIN * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)


def cycle(period: Floats) -> int:
    """Return after how many steps slow ones recur, as those of local SGD that exchange; 1 where nothing recurs."""
    limit = float(np.median(period)) + max(_SLOW * deviation(period), SLOW_STEPS * float(np.median(period)))
    distances = np.diff(np.flatnonzero(period > limit))
    if len(distances) < _RECUR - 1 or distances[0] < 2 or not np.all(distances == distances[0]):
        return 1
    return int(distances[0])
