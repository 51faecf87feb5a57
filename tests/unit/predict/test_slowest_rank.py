"""The slowest of R ranks, on distributions whose order statistics are known."""

from statistics import NormalDist

import numpy as np
import pytest

from hpcsynapse.predict.slowest import dependence, spread

RANKS = np.array([1, 2, 4, 64, 1024, 100_000], float)
ABOVE = np.concatenate(([0.0], np.geomspace(1e-12, 1, 20_001)))  # probabilities to be exceeded
MIDDLE = (ABOVE[1:] + ABOVE[:-1]) / 2
NORMAL = -np.array([NormalDist().inv_cdf(p) for p in MIDDLE])

KNOWN = {
    "normal": (lambda rng, n: 1 + 0.05 * rng.standard_normal(n), 1 + 0.05 * NORMAL),
    "exponential": (lambda rng, n: 1 + 0.05 * rng.exponential(size=n), 1 - 0.05 * np.log(MIDDLE)),
    "uniform": (lambda rng, n: 1 + 0.1 * rng.random(n), 1 + 0.1 * (1 - MIDDLE)),
    "lognormal": (lambda rng, n: np.exp(0.1 * rng.standard_normal(n)), np.exp(0.1 * NORMAL)),
}


def mean_of_slowest(quantiles, ranks):
    """The mean of the largest of so many draws, from quantiles at MIDDLE."""
    below = (1 - ABOVE) ** ranks
    return float(np.sum((below[:-1] - below[1:]) * quantiles))


@pytest.mark.parametrize("name", KNOWN)
def test_known_distributions(name):
    draw, quantiles = KNOWN[name]
    expected = [mean_of_slowest(quantiles, ranks) for ranks in RANKS]
    found = np.mean([spread(draw(np.random.default_rng(seed), 4000)).slowest(RANKS) for seed in range(10)], axis=0)
    assert found[:5] == pytest.approx(expected[:5], rel=0.01)
    assert found[5] == pytest.approx(expected[5], rel=0.05)  # 25 times beyond the sample


@pytest.mark.parametrize(("share", "factor", "size"), [(0.01, 3, 1600), (0.01, 3, 6000), (0.05, 5, 1600)])
def test_rare_slow_steps_are_counted_as_the_sample_has_them(share, factor, size):
    """The tail model from the upper 10 % on was 12.6 and 24.5 % too slow with 16 and 32 ranks."""
    ranks = np.array([1.0, 8, 16, 32, 64])

    def draw(seed, count):
        rng = np.random.default_rng(seed)
        return np.exp(0.05 * rng.standard_normal(count)) * np.where(rng.random(count) < share, factor, 1.0)

    big = np.sort(draw(99, 1_000_000))[::-1]
    edges = np.arange(len(big) + 1) / len(big)
    true = [float(np.sum(-np.diff((1 - edges) ** count) * big)) for count in ranks]
    found = np.mean([spread(draw(seed, size)).slowest(ranks) for seed in range(40)], axis=0)
    assert found == pytest.approx(true, rel=0.03)
    own = spread(draw(0, size))
    above = np.array([0.5, 0.05, 10 / size])
    assert own.quantile(above) == pytest.approx(np.quantile(draw(0, size), 1 - above, method="hazen"))


def test_few_times_have_no_tail():
    found = spread(np.array([1.0, 1.1, 0.9]))
    assert found.slowest(RANKS)[[0, 5]] == pytest.approx([1.0, 1.1], rel=1e-3)
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
