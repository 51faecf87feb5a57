"""How long the slowest of R ranks takes, from the times that ranks were seen to take.

A step of ranks in lock-step lasts as long as its slowest rank. What is predicted is its median, as a report gives the
median step: the time t with P(all R <= t) = 1/2, which is the quantile of one rank's times at 2^(-1/R). Where the
sample does not reach that far its upper tail is continued by a generalised Pareto distribution (Pickands 1975), fitted
to the largest times by probability-weighted moments (Hosking and Wallis, Technometrics 29, 1987). The shape is kept
within SHAPES: what a few hundred steps show cannot justify tails that are heavier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
TAIL = 0.1  # the share of the sample that the tail is fitted to ...
MIN_TAIL = 10  # ... and the fewest values
SHAPES = (-0.5, 0.25)


@dataclass(frozen=True)
class Spread:
    """The distribution of a rank's time: sorted times, and the tail that continues them above `threshold`."""

    times: Floats
    threshold: float
    share: float  # of the times that lie above the threshold
    scale: float
    shape: float

    def quantile(self, above: Floats) -> Floats:
        """Return the times that are exceeded with the probabilities `above`."""
        ranks = np.arange(1, len(self.times) + 1)
        inside = np.interp(1.0 - above, (ranks - 0.5) / len(self.times), self.times)
        ratio = np.log(np.minimum(above / self.share, 1.0)) if self.share else np.zeros_like(above)
        growth = -ratio if abs(self.shape) < 1e-9 else np.expm1(-self.shape * ratio) / self.shape
        return np.where(above < self.share, self.threshold + self.scale * growth, inside)

    def slowest(self, ranks: Floats) -> Floats:
        """Return the median over steps of the largest time of so many independent ranks."""
        return self.quantile(-np.expm1(-np.log(2) / np.asarray(ranks, float)))


def spread(times: Floats) -> Spread:
    """Fit the distribution to a sample of at least one time."""
    ordered = np.sort(np.asarray(times, float))
    count = len(ordered)
    tail = max(MIN_TAIL, round(TAIL * count))
    if count < 2 * tail:  # too few to tell a tail: the largest time is the limit
        return Spread(ordered, float(ordered[-1]), 0.0, 0.0, 0.0)
    threshold = float((ordered[count - tail - 1] + ordered[count - tail]) / 2)
    scale, shape = _pareto(ordered[count - tail :] - threshold)
    return Spread(ordered, threshold, tail / count, scale, shape)


def _pareto(excess: Floats) -> tuple[float, float]:
    """Return scale and shape of the generalised Pareto distribution of ascending values above zero."""
    places = (np.arange(1, len(excess) + 1) - 0.35) / len(excess)
    mean, weighted = float(excess.mean()), float(np.mean((1 - places) * excess))
    if mean <= 0:
        return 0.0, 0.0
    shape = float(np.clip(2 - mean / (mean - 2 * weighted), *SHAPES)) if mean > 2 * weighted else SHAPES[0]
    return mean * (1 - shape), shape


def dependence(times: Floats) -> tuple[float, float]:
    """Return by how much the slowest of a run's ranks exceeds the median rank: as measured, and were ranks independent.

    `times` has shape (ranks, steps). Ranks that are slow in the same steps have a slowest rank that is less slow.
    """
    middle = float(np.median(times))
    alone = float(spread(times.ravel()).slowest(np.array([len(times)]))[0])
    return float(np.median(times.max(axis=0))) - middle, alone - middle
