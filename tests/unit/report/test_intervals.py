"""Student's t against published tables, and the coverage of every interval on generated data."""

import math
from itertools import pairwise

import numpy as np
import pytest
from series import run_of_steps

from hpcsynapse.report.intervals import of_repeats, of_steps, ratio, t_probability, t_quantile

pytestmark = pytest.mark.slow

TRIALS = 500
# Abramowitz and Stegun, table 26.10, and high-precision values of the 0.975 quantile.
TABLE = {
    1: 12.7062047364,
    2: 4.3026527297,
    3: 3.1824463053,
    4: 2.7764451052,
    9: 2.2621571628,
    30: 2.0422724563,
    120: 1.9799304051,
    1000: 1.9623390808,
}


@pytest.mark.parametrize(("freedom", "value"), TABLE.items())
def test_t_quantiles(freedom, value):
    assert t_quantile(0.975, freedom) == pytest.approx(value, rel=1e-8)
    assert t_probability(value, freedom) == pytest.approx(0.975, abs=1e-9)


def test_t_quantiles_fall_with_the_freedom_also_between_whole_numbers():
    values = [t_quantile(0.975, freedom) for freedom in np.linspace(1, 20, 77)]
    assert all(after < before for before, after in pairwise(values))
    assert t_probability(1.0, 1) == pytest.approx(0.75)  # Cauchy: 1/2 + atan(1)/pi


def repeats(rng, time, count, between):
    """Return the medians of repeated runs, which differ by more than their steps let expect."""
    return [float(np.median(run_of_steps(rng, time * math.exp(rng.normal(0, between)), 200))) for _ in range(count)]


@pytest.mark.parametrize("efficiency", [0.90, 0.68])
@pytest.mark.parametrize(("count", "low", "high"), [(5, 0.93, 0.97), (3, 0.93, 0.985), (2, 0.93, 0.995)])
def test_intervals_from_repeats_cover_the_truth(efficiency, count, low, high):
    """Two or three repeats give intervals that are rather too wide than too narrow."""
    rng = np.random.default_rng(20)
    hits = 0
    for _ in range(TRIALS):
        base = of_repeats(repeats(rng, 0.1, count, 0.03))
        point = of_repeats(repeats(rng, 0.1 / efficiency, count, 0.03))
        ends = ratio(base, point).interval()
        hits += ends[0] <= efficiency <= ends[1]
    assert low <= hits / TRIALS <= high


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_intervals_from_one_run_cover_what_that_run_would_give_if_it_went_on(correlation):
    rng = np.random.default_rng(21)
    hits = 0
    for _ in range(TRIALS):
        pair = [run_of_steps(rng, time, correlation=correlation, stragglers=0) for time in (0.1, 0.1 / 0.68)]
        base, point = (of_steps(float(np.median(steps)), steps) for steps in pair)
        ends = ratio(base, point).interval()
        hits += ends[0] <= 0.68 <= ends[1]
    assert 0.92 <= hits / TRIALS <= 0.975


def test_steps_taken_as_independent_would_cover_far_too_little():
    """The reason for batch means: the naive interval of a run with correlated steps."""
    rng = np.random.default_rng(22)
    hits = 0
    for _ in range(TRIALS):
        logs = np.log(run_of_steps(rng, 0.1, stragglers=0))
        hits += abs(logs.mean() - math.log(0.1)) <= 1.96 * logs.std() / math.sqrt(len(logs))
    assert hits / TRIALS < 0.7


def test_what_cannot_be_known_is_not_given():
    assert of_repeats([1.0]).interval() is None
    assert of_steps(1.0, np.ones(29)).interval() is None
    assert ratio(of_repeats([1.0]), of_repeats([1.0, 2.0])).interval() is None
    assert of_steps(2.0, np.full(30, 2.0)).interval() == pytest.approx((2.0, 2.0))
    assert ratio(of_repeats([2.0, 2.0]), of_repeats([1.0, 1.0])).interval() == pytest.approx((2.0, 2.0))
