"""The figures that a model is fitted to: as they were measured, or drawn again with what they may be wrong by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict.curve import Curve, Network, Observation
from hpcsynapse.predict.samples import RunSamples
from hpcsynapse.predict.slowest import Spread, spread
from hpcsynapse.predict.uncertainty import Errors, errors_of, errors_of_runs
from hpcsynapse.report.intervals import BLOCKS

Floats = npt.NDArray[np.float64]
# An exchange is taken to see up to so many times the latency of a data sheet, and 1/BANDWIDTHS of its bandwidth.
LATENCIES, BANDWIDTHS = 3.0, 2.0
TINY = 1e-9  # s; communication below it counts as this, where something is relative to it
_SPREADS = 40  # draws of the distribution of computation times
_BLOCKS = 20
_NONE: Floats = np.zeros(1)


class Figures:
    """What was measured, one row; or a row for each misfit, drawn with it and with the errors of the figures.

    `wrong` are misfits of times, `astray` those of communication, relative to it.
    """

    def __init__(
        self, curve: Curve, mix: np.random.Generator | None = None, wrong: Floats = _NONE, astray: Floats = _NONE
    ) -> None:
        self.curve, self.mix = curve, mix
        self._wrong, self._astray = wrong, astray

    def times(self, points: Sequence[Observation]) -> Floats:
        """Return times of steps."""
        return self._scaled([point.time for point in points], time_errors(points))

    def levels(self, points: Sequence[Observation]) -> Floats:
        """Return how long ranks compute."""
        return self._scaled([mean([one.level for one in point.samples]) for point in points], level_errors(points))

    def rests(self, points: Sequence[Observation]) -> Floats:
        """Return what communication took."""
        values = communication(points)
        noise = self._noise(rest_errors(points), self._astray)
        return np.maximum(0.0, values + np.maximum(values, TINY) * noise)

    def network(self, given: Network, draws: int) -> tuple[Floats, Floats]:
        """Return what a network costs that is known from its data sheet, which gives the best that it can do."""
        if self.mix is None:
            return np.full(draws, given.alpha), np.full(draws, given.beta)
        slower, narrower = (self.mix.uniform(1.0, most, draws) for most in (LATENCIES, BANDWIDTHS))
        return given.alpha * slower, given.beta * narrower

    def spreads(self, runs: Sequence[RunSamples]) -> tuple[Spread, ...]:
        """Return the distribution of relative times; drawn: of blocks of neighbours, with replacement."""
        if self.mix is None:
            return (_spread(tuple(runs)),)
        blocks = [block for run in runs for block in np.array_split(run.relative, _BLOCKS) if len(block)]
        chosen = self.mix.integers(0, len(blocks), (_SPREADS, len(blocks)))
        return tuple(spread(np.concatenate([blocks[index] for index in row])) for row in chosen)

    def _scaled(self, values: Sequence[float], errors: Errors) -> Floats:
        return np.asarray(np.asarray(values, float) * np.exp(self._noise(errors, self._wrong)))

    def _noise(self, errors: Errors, misfit: Floats) -> Floats:
        return np.zeros((1, len(errors.sizes))) if self.mix is None else errors.noise(self.mix, misfit)


@lru_cache(maxsize=32)
def _spread(runs: tuple[RunSamples, ...]) -> Spread:
    return spread(np.concatenate([run.relative for run in runs]))


def time_errors(points: Sequence[Observation]) -> Errors:
    """Return the relative errors of step times."""
    return errors_of(*zip(*((point.error, point.freedom, point.repeats) for point in points), strict=True))


def level_errors(points: Sequence[Observation]) -> Errors:
    """Return the relative errors of the computation of ranks; those of the step where runs do not tell them."""
    values = [[math.log(one.level) for one in point.samples] for point in points]
    within = [[one.level_error or point.error for one in point.samples] for point in points]
    return errors_of_runs(values, within, _freedom(points))


def rest_errors(points: Sequence[Observation]) -> Errors:
    """Return the errors of communication, relative to it."""
    mean = np.maximum(communication(points), TINY)
    values = [[one.communicate / whole for one in point.samples] for point, whole in zip(points, mean, strict=True)]
    within = [
        [(one.communicate_error or point.error * point.time) / whole for one in point.samples]
        for point, whole in zip(points, mean, strict=True)
    ]
    return errors_of_runs(values, within, _freedom(points))


def communication(points: Sequence[Observation]) -> Floats:
    """Return what communication added to the steps of points (s), mean over their runs."""
    return np.array([mean([one.communicate for one in point.samples]) for point in points])


def _freedom(points: Sequence[Observation]) -> float:
    return float(BLOCKS - 1) if any(one.level_error for point in points for one in point.samples) else 0.0


def mean(values: Sequence[float]) -> float:
    """Return the mean of values."""
    return math.fsum(values) / len(values)
