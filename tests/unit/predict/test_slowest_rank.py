"""The slowest of R ranks, on distributions whose order statistics are known."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from hpcsynapse.predict.slowest import dependence, spread

RANKS = np.array([1, 2, 4, 64, 1024, 100_000], float)
HALF = -np.expm1(-math.log(2) / RANKS)  # the probability that one rank exceeds the median of the slowest

KNOWN = {
    "normal": (lambda rng, n: 1 + 0.05 * rng.standard_normal(n),
               [1 - 0.05 * NormalDist().inv_cdf(p) for p in HALF]),
    "exponential": (lambda rng, n: 1 + 0.05 * rng.exponential(size=n), 1 - 0.05 * np.log(HALF)),
    "uniform": (lambda rng, n: 1 + 0.1 * rng.random(n), 1 + 0.1 * (1 - HALF)),
    "lognormal": (lambda rng, n: np.exp(0.1 * rng.standard_normal(n)),
                  [math.exp(-0.1 * NormalDist().inv_cdf(p)) for p in HALF]),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_distributions(name):
    draw, expected = KNOWN[name]
    found = np.mean([spread(draw(np.random.default_rng(seed), 4000)).slowest(RANKS) for seed in range(10)], axis=0)
    assert found[:5] == pytest.approx(expected[:5], rel=0.015)
    assert found[5] == pytest.approx(expected[5], rel=0.05)  # 25 times beyond the sample


def test_few_times_have_no_tail():
    found = spread(np.array([1.0, 1.1, 0.9]))
    assert found.slowest(RANKS)[[0, 5]] == pytest.approx([1.0, 1.1])
    assert spread(np.array([2.0])).slowest(RANKS) == pytest.approx(np.full(6, 2.0))
    assert spread(np.full(1000, 2.0)).slowest(RANKS) == pytest.approx(np.full(6, 2.0))


def test_the_slowest_never_gets_faster_with_more_ranks():
    ranks = np.arange(1, 20_000, 7, dtype=float)
    for seed in range(5):
        times = np.random.default_rng(seed).gamma(2, size=300)
        assert (np.diff(spread(times).slowest(ranks)) >= -1e-12).all()


def test_ranks_that_are_slow_together_have_no_slower_slowest():
    rng = np.random.default_rng(0)
    alone = 1 + 0.05 * rng.standard_normal((8, 2000))
    measured, independent = dependence(alone)
    assert measured == pytest.approx(independent, rel=0.05)
    together = np.repeat(alone[:1], 8, axis=0) + 0.001 * rng.standard_normal((8, 2000))
    measured, independent = dependence(together)
    assert measured < 0.05 * independent
