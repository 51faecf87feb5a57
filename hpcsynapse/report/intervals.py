"""95 % intervals of step times and of their ratios, for correlated steps and few repeats.

Times are positive and their ratios are what is asked for, so everything is done on logarithms. The methods were
chosen by the coverage they reach on generated data: tests/unit/report/test_intervals.py tests them alone, and
test_coverage.py beside it in a whole report; test_true_rates.py what they hold where steps are slow, alike or few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.shape import NONE, Memory, cycle, memory

LEVEL = 0.95
NORMAL = 1.959964  # half that interval of a normal distribution, in standard deviations
BLOCKS = 6
MIN_BLOCK = 5
MIN_CYCLES = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """A positive quantity, the variance of its logarithm and the degrees of freedom of that; 0 of them: not known."""

    value: float
    variance: float = 0.0
    freedom: float = 0.0

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the quantity, or None where its variance is not known."""
        if not self.freedom:
            return None
        factor = math.exp(t_quantile((1 + LEVEL) / 2, self.freedom) * math.sqrt(self.variance))
        return self.value / factor, self.value * factor


def of_repeats(values: Sequence[float]) -> Estimate:
    """Return the geometric mean of a quantity over repeats; with one repeat its variance is not known."""
    count = len(values)
    if count < 2:
        return Estimate(values[0])
    logs = [math.log(value) for value in values]
    mean = math.fsum(logs) / count
    variance = math.fsum((value - mean) ** 2 for value in logs) / (count - 1)
    return Estimate(math.exp(mean), variance / count, count - 1)


def of_steps(value: float, steps: npt.NDArray[np.float64]) -> Estimate:
    """Return a typical time of one run with the variance that its steps show, by batch means.

    The steps, in order, are cut into BLOCKS equal blocks; the medians of long blocks are close to independent even
    where neighbouring steps are not (Law and Kelton, Simulation Modeling and Analysis, batch means). Few long blocks
    cover better than many: 200 steps with a correlation of 0.8 from one to the next gave 91.7 % with ten of them and
    93.8 % with six. What correlation is left between blocks is put right as `_of_blocks` says.
    """
    size = len(steps) // BLOCKS
    if size < MIN_BLOCK:
        return Estimate(value)
    blocks = np.log(np.median(steps[len(steps) - size * BLOCKS :].reshape(BLOCKS, size), axis=1))
    return _of_blocks(value, blocks, size, memory(steps))


def of_rate(work: npt.NDArray[np.float64], time: npt.NDArray[np.float64]) -> Estimate:
    """Return work / time of one run with the variance that it shows, by batch means; one value per step of either.

    As `of_steps`, with the rates of whole blocks. Where slow steps recur at equal distances blocks are whole cycles,
    and what is left at the beginning is not used: a run that ends in the middle of a cycle is not slower for that.
    """
    period = cycle(time)
    used = len(time) // period * period
    count = min(BLOCKS, used // period)
    if count < MIN_CYCLES or used < BLOCKS * MIN_BLOCK:
        period, used, count = 1, len(time), BLOCKS
    work, time = work[len(work) - used :], time[len(time) - used :]
    value = float(work.sum() / time.sum())
    size = used // period // count * period
    if size * count < BLOCKS * MIN_BLOCK:
        return Estimate(value)
    rates = [np.add.reduce(values[used - size * count :].reshape(count, size), axis=1) for values in (work, time)]
    return _of_blocks(value, np.log(rates[0] / rates[1]), size, memory(time) if period == 1 else NONE)


def _of_blocks(value: float, blocks: npt.NDArray[np.float64], size: int, known: Memory) -> Estimate:
    """Return a value with the variance of the mean of some blocks of so many steps.

    Blocks of steps with a memory resemble their neighbours, so that they differ by less than they would alone. For a
    memory that decays by a constant factor the expected variance is known; it is put right by that.
    """
    count = len(blocks)
    of_block, of_all = known.of_mean(size), known.of_mean(size * count)
    factor = (count - 1) * of_all / (count * of_block - of_all)
    return Estimate(value, float(blocks.var(ddof=1)) / count * max(1.0, factor), count - 1)


def of_unlike(above: Estimate, above_repeats: int, below: Estimate, below_repeats: int) -> Estimate:
    """Return the quotient of two quantities of so many repeats each.

    Where one side has a single run and the other several, that run is taken to vary as the others do: its steps do not
    show how runs differ.
    """
    if min(above_repeats, below_repeats) > 1 or max(above_repeats, below_repeats) == 1:
        return ratio(above, below)
    many, few = (above, below) if above_repeats > below_repeats else (below, above)
    of_a_run = max(many.variance * max(above_repeats, below_repeats), few.variance)
    return Estimate(above.value / below.value, of_a_run + many.variance, many.freedom)


def ratio(above: Estimate, below: Estimate) -> Estimate:
    """Return the quotient of two independent quantities (Welch 1947, on logarithms).

    Its variance is unknown where either's is.
    """
    value, variance = above.value / below.value, above.variance + below.variance
    if not above.freedom or not below.freedom:
        return Estimate(value)
    if variance <= 0:
        return Estimate(value, 0.0, above.freedom + below.freedom)
    freedom = variance**2 / (above.variance**2 / above.freedom + below.variance**2 / below.freedom)
    return Estimate(value, variance, freedom)


def pooled(above: Estimate, below: Estimate) -> Estimate:
    """Return the quotient of two independent quantities of equally many repeats that vary alike (Student 1908).

    Where they do not, the interval of 95 % holds 89 % at worst (three repeats, one side without any variation).
    """
    return Estimate(above.value / below.value, above.variance + below.variance, above.freedom + below.freedom)


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution for probability in (0.5, 1) and any freedom > 0."""
    low, high = 0.0, 2.0
    while t_probability(high, freedom) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if t_probability(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def t_probability(value: float, freedom: float) -> float:
    """Return P(T <= value) of Student's t distribution, value >= 0 (Abramowitz and Stegun 26.7.1)."""
    return 1 - 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges fast
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    return front * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Evaluate the continued fraction of the incomplete beta function by Lentz's method (DLMF 8.17.22)."""
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    result = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            result *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return result
