"""Costs of exchanges, least squares and the laws beside them have known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsynapse.predict import cost, laws
from hpcsynapse.predict.nonnegative import solve

RANKS = np.array([1.0, 2, 3, 4, 1024])


@pytest.mark.parametrize(
    ("kind", "rounds", "models"),
    [
        ("ring", [0, 2, 4, 6, 2046], [0, 1, 4 / 3, 1.5, 2046 / 1024]),
        ("tree", [0, 2, 4, 4, 20], [0, 1, 4 / 3, 1.5, 2046 / 1024]),
        ("binomial", [0, 2, 4, 4, 20], [0, 2, 4, 4, 20]),
        ("star", [0, 2, 4, 6, 2046], [0, 2, 4, 6, 2046]),
        ("servers", [2, 2, 2, 2, 2], [2, 2, 3, 4, 1024]),
    ],
)
def test_rounds_and_volume(kind, rounds, models):
    assert cost.rounds(kind, RANKS) == pytest.approx(rounds)
    assert cost.volume(kind, RANKS, servers=2) == pytest.approx(models)
    busy, slope = cost.transfer(kind, RANKS, np.full(5, 0.5), np.ones(5), servers=2)
    assert busy == pytest.approx([0.5 * one for one in models])
    assert slope == pytest.approx(models)


def mean_value_analysis(workers, service, think):
    """The exact response time of a closed network of one queue and one delay (Reiser and Lavenberg 1980)."""
    waiting = 0.0
    for count in range(1, workers + 1):
        response = service * (1 + waiting)
        waiting = response * count / (think + response)
    return response


@pytest.mark.parametrize("workers", [1, 2, 4, 16, 1000])
@pytest.mark.parametrize("load", [0.001, 0.02, 0.5])
def test_the_queue_is_close_to_exact_analysis(workers, load):
    found, _ = cost.transfer("queue", np.array([float(workers)]), np.array([load / 2]), np.ones(1))
    assert 1 + found[0] == pytest.approx(1 + mean_value_analysis(workers, load, 1.0), rel=0.1)
    if workers in (1, 1000):
        assert 1 + found[0] == pytest.approx(1 + mean_value_analysis(workers, load, 1.0), rel=0.04)


def test_the_slope_of_the_queue_is_its_derivative():
    ranks, think, step = np.array([1.0, 4, 64]), np.ones(3), 1e-7
    low, high = (cost.transfer("queue", ranks, np.full(3, 0.01 + d), think, 2)[0] for d in (-step, step))
    assert cost.transfer("queue", ranks, np.full(3, 0.01), think, 2)[1] == pytest.approx((high - low) / 2 / step)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6))
def test_least_squares_satisfy_the_conditions_of_optimality(seed, rows):
    """Karush, Kuhn and Tucker: no gradient along what is above zero, and none that would grow what is zero."""
    rng = np.random.default_rng(seed)
    columns, values = rng.standard_normal((rows, 3)), rng.standard_normal((4, rows))
    found = solve(columns, values)
    gradient = (found @ columns.T - values) @ columns
    assert (found >= 0).all()
    assert gradient.min() > -1e-6
    assert np.abs(gradient[found > 0]).max(initial=0) < 1e-6


def test_what_cannot_be_told_apart_is_the_first_column_or_any_mean():
    columns, values = np.array([[1.0, 2.0]]), np.full((200, 1), 4.0)
    assert solve(columns, values)[0] == pytest.approx([4, 0])
    mixed = solve(columns, values, np.random.default_rng(0))
    assert mixed @ columns[0] == pytest.approx(np.full(200, 4.0))
    assert mixed[:, 1].min() < 0.1
    assert mixed[:, 1].max() > 1.9


@pytest.mark.parametrize(("sigma", "kappa"), [(0.05, 0.0), (0.03, 0.0002), (0.0, 0.0)])
def test_laws_recover_their_coefficients(sigma, kappa):
    ranks = np.array([1.0, 2, 4, 8, 32])
    speedups = 0.9 * ranks / (1 + sigma * (ranks - 1) + kappa * ranks * (ranks - 1))
    law = laws.fit(ranks, speedups, laws.USL)
    assert (law.factor, law.sigma, law.kappa) == pytest.approx((0.9, sigma, kappa), abs=1e-9)
    assert law.speedup(ranks) == pytest.approx(speedups)
    if not kappa:
        assert laws.fit(ranks[:2], speedups[:2], laws.AMDAHL).sigma == pytest.approx(sigma, abs=1e-9)


def test_no_law_says_that_more_than_all_of_the_work_is_serial():
    assert laws.fit([1, 2, 4], [1, 0.9, 0.7], laws.AMDAHL) is None
    assert laws.fit([1, 2, 4], [1, 1.1, 1.2], laws.AMDAHL).sigma < 1


def test_laws_need_as_many_points_as_coefficients():
    assert laws.fit([1, 1], [1, 1.1], laws.AMDAHL) is None
    assert laws.fit([1, 2], [1, 1.9], laws.USL) is None
