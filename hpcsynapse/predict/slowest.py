"""How long the slowest of R ranks takes, from the times that ranks were seen to take.

A step of ranks in lock-step lasts as long as its slowest rank; what counts for a rate is the mean of that over steps.
It follows from the quantiles of one rank's times: those of the sample itself as far as it reaches, that is while REACH
or more of its times lie beyond. Farther out a generalised Pareto distribution (Pickands 1975) continues it, fitted by
probability-weighted moments (Hosking and Wallis, Technometrics 29, 1987) to as much of the largest times as looks like
one. The shape is kept within SHAPES: what a few hundred steps show cannot justify tails that are heavier.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
TAIL = 0.1  # the largest share of the sample that the tail is fitted to ...
REACH = 10  # ... the fewest times, and how many must lie beyond a quantile that is the sample's own
SHAPES = (-0.5, 0.25)
_FITS = 0.9  # a tail is taken for one while its Kolmogorov distance x sqrt(times) is below this
# Where the quantile function is looked up, as probabilities to be exceeded: even on a logarithmic scale.
_EDGES = np.concatenate(([0.0], np.geomspace(1e-11, 1.0, 700)))
_GRID = 300  # numbers of ranks that are worked out; between them is interpolated


@dataclass(frozen=True)
class Spread:
    """The distribution of a rank's time: sorted times, and the tail that continues them.

    The tail was fitted to the `share` of times above `threshold`; it holds from the probability `reach` on.
    """

    times: Floats
    threshold: float
    share: float
    scale: float
    shape: float
    reach: float

    def quantile(self, above: Floats) -> Floats:
        """Return the times that are exceeded with the probabilities `above`."""
        probability = np.asarray(above, float)
        inside = self._own(np.maximum(probability, self.reach))
        if not self.share:
            return inside
        beyond = self._tail(np.minimum(probability, self.reach)) - self._tail(np.array(self.reach))
        return np.asarray(inside + beyond)

    def slowest(self, ranks: Floats) -> Floats:
        """Return the mean over steps of the largest time of so many independent ranks."""
        count = np.asarray(ranks, float)
        if count.size <= _GRID:
            return self._slowest(count)
        grid = np.geomspace(count.min(), count.max(), _GRID)
        return np.asarray(np.interp(count, grid, self._slowest(grid)))

    def _slowest(self, ranks: Floats) -> Floats:
        """Integrate the quantile function over the distribution of the largest of so many."""
        below = np.exp(ranks[:, None] * np.log1p(-np.minimum(_EDGES, 1 - 1e-16)))
        below[:, -1] = 0.0
        return np.asarray(-np.diff(below, axis=1) @ self._looked_up)

    @cached_property
    def _looked_up(self) -> Floats:
        return self.quantile((_EDGES[1:] + np.maximum(_EDGES[:-1], 1e-12)) / 2)

    def _own(self, above: Floats) -> Floats:
        places = (np.arange(1, len(self.times) + 1) - 0.5) / len(self.times)
        return np.asarray(np.interp(1.0 - above, places, self.times))

    def _tail(self, above: Floats) -> Floats:
        ratio = np.log(np.maximum(above, 1e-300) / self.share)
        growth = -ratio if abs(self.shape) < 1e-9 else np.expm1(-self.shape * ratio) / self.shape
        return np.asarray(self.threshold + self.scale * growth)


def spread(times: Floats) -> Spread:
    """Fit the distribution to a sample of at least one time."""
    ordered = np.sort(np.asarray(times, float))
    count = len(ordered)
    size = max(REACH, round(TAIL * count))
    if count < 2 * size:  # too few to tell a tail: the largest time is the limit
        return Spread(ordered, float(ordered[-1]), 0.0, 0.0, 0.0, 0.0)
    while True:
        threshold = float((ordered[count - size - 1] + ordered[count - size]) / 2)
        excess = ordered[count - size :] - threshold
        scale, shape = _pareto(excess)
        if size <= REACH or _distance(excess, scale, shape) < _FITS:
            return Spread(ordered, threshold, size / count, scale, shape, min(size, REACH) / count)
        size = max(REACH, size // 2)


def _pareto(excess: Floats) -> tuple[float, float]:
    """Return scale and shape of the generalised Pareto distribution of ascending values above zero."""
    places = (np.arange(1, len(excess) + 1) - 0.35) / len(excess)
    mean, weighted = float(excess.mean()), float(np.mean((1 - places) * excess))
    if mean <= 0:
        return 0.0, 0.0
    shape = float(np.clip(2 - mean / (mean - 2 * weighted), *SHAPES)) if mean > 2 * weighted else SHAPES[0]
    return mean * (1 - shape), shape


def _distance(excess: Floats, scale: float, shape: float) -> float:
    """Return Kolmogorov's distance of ascending values from that distribution, times the root of their number."""
    if scale <= 0:
        return 0.0
    count = len(excess)
    reduced = excess / scale
    left = np.exp(-reduced) if abs(shape) < 1e-9 else np.maximum(0.0, 1 + shape * reduced) ** (-1 / shape)
    steps = np.arange(count + 1) / count
    return float(np.sqrt(count) * max(np.max(np.abs(1 - left - steps[1:])), np.max(np.abs(1 - left - steps[:-1]))))


def dependence(times: Floats) -> tuple[float, float]:
    """Return by how much the slowest of a run's ranks exceeds the mean rank: as measured, and were ranks independent.

    `times` has shape (ranks, steps). Ranks that are slow in the same steps have a slowest rank that is less slow.
    """
    middle = float(np.mean(times))
    alone = float(spread(times.ravel()).slowest(np.array([len(times)], float))[0])
    return float(np.mean(times.max(axis=0))) - middle, alone - middle
