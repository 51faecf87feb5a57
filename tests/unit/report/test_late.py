"""False names and power of the judgement on slow ranks, on noise whose kind is known."""

import numpy as np
import pytest
from series import correlated

from hpcsynapse.report.late import late, series_of

pytestmark = pytest.mark.slow

RANKS = (2, 4, 16, 64)


def noise(kind, rng, ranks, steps):
    """Return step times around 1: even noise of 10 %, 5 % of steps five times as long, or a strong memory (sd 10 %)."""
    if kind == "AR 0.95":
        return np.exp(correlated(rng, (ranks, steps), 0.95, 0.1))
    if kind == "5 % x5":
        return np.exp(rng.normal(0, 0.03, (ranks, steps))) * np.where(rng.random((ranks, steps)) < 0.05, 5.0, 1.0)
    return np.exp(rng.normal(0, 0.1, (ranks, steps)))


def judged(times):
    return late([series_of(own, np.arange(len(own))) for own in times], enough=True)


def false_names(kind, steps, runs, seed=0):
    """Return in how many runs of equal ranks anybody is named."""
    rng = np.random.default_rng(seed)
    return sum(any(one.slow for one in judged(noise(kind, rng, RANKS[run % 4], steps))) for run in range(runs))


@pytest.mark.parametrize("kind", ["even", "5 % x5", "AR 0.95"])
@pytest.mark.parametrize("steps", [60, 210])
def test_equal_ranks_are_not_named(kind, steps):
    assert false_names(kind, steps, 32, seed=1) <= 1


@pytest.mark.parametrize("kind", ["even", "5 % x5", "AR 0.95"])
@pytest.mark.parametrize("steps", [60, 210])
def test_in_one_of_a_hundred_runs_at_most_equal_ranks_are_named(kind, steps):
    assert false_names(kind, steps, 500) <= 5


@pytest.mark.parametrize(("kind", "steps"), [("even", 210), ("5 % x5", 210), ("even", 410)])
def test_a_third_more_from_half_of_the_run_on_is_named_with_when(kind, steps):
    rng, found, when = np.random.default_rng(2), 0, 0
    for run in range(40):
        times = noise(kind, rng, (2, 4, 8, 64)[run % 4], steps)
        times[1, steps // 2 :] *= 1.3
        one = judged(times)[1]
        found += one.slow
        when += one.slow and abs(one.block - 6) <= 1
    assert found >= 38 and when >= 36


def test_a_rank_slow_from_the_beginning_has_no_change():
    rng = np.random.default_rng(3)
    for _ in range(20):
        times = noise("even", rng, 8, 210)
        times[3] *= 1.3
        found = judged(times)
        assert [index for index, one in enumerate(found) if one.slow] == [3]
        assert found[3].block == 0 and found[3].low < 0.3 < found[3].high
