"""Exchanges are told apart where the points can, and intervals cover the choice where they cannot."""

import dataclasses

import numpy as np
import pytest

from hpcsynapse.predict.choice import candidates
from hpcsynapse.predict.curve import Congestion
from hpcsynapse.predict.forecast import Forecast
from hpcsynapse.predict.summary import document, sentences

COSTS = {"alpha": 0.002, "beta": 0.04}


def open_curve(curve, ranks, **options):
    return dataclasses.replace(curve(ranks, **{**COSTS, **options}), collective="ring", alternatives=("tree",))


@pytest.mark.parametrize("kind", ["ring", "tree"])
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_ring_and_tree_are_told_apart(curve, kind, noise):
    best, *_ = candidates(open_curve(curve, [1, 2, 4, 8, 16, 32], kind=kind, noise=noise))
    assert (best.curve.collective, best.curve.congestion) == (kind, None)
    assert best.share > 0.8
    assert best.error < 0.1


def test_what_the_points_do_not_tell_is_in_the_interval(curve, exchanged):
    forecast = Forecast(open_curve(curve, [1, 2, 4]))
    assert forecast.model.curve.collective == "ring"  # that of the strategy
    assert {one.curve.collective: one.error for one in forecast.candidates} == {"ring": None, "tree": None}
    far = np.array([64.0])
    low, high = forecast.intervals(far, far)[0][:, 0]
    tree = exchanged("tree", far, alpha=0.006, beta=0.032)[0]  # which takes as long as this ring with 2 and 4 ranks
    assert low < 1.01 * (0.1 + tree) < 0.1 + exchanged("ring", far, **COSTS)[0] < 1.01 * high


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_congestion_is_found_where_it_was_measured(curve, power):
    ranks = [1, 2, 4, 8, 16, 32, 64]
    plain = open_curve(curve, ranks)
    slow = tuple(
        dataclasses.replace(
            point,
            time=point.time + (more - 1) * point.samples[0].communicate,
            samples=(dataclasses.replace(point.samples[0], communicate=more * point.samples[0].communicate),),
        )
        for point in plain.observations
        for more in [max(1.0, point.ranks / 16) ** power]
    )
    forecast = Forecast(dataclasses.replace(plain, observations=slow))
    assert forecast.candidates[0].curve.congestion == Congestion(16, power)
    communicate = 0.002 * 2 * 255 + 0.04 * 2 * 255 / 256
    expected = 0.1 + communicate * 16**power
    assert forecast.model.time(np.array([256.0]), np.array([256.0]))[0, 0] == pytest.approx(expected, rel=0.02)
    assert "from 16 on" in "\n".join(sentences(forecast))


def test_a_collective_that_is_asked_for_is_not_chosen_anew(curve):
    assert {one.curve.collective for one in candidates(curve([1, 2, 4, 8]))} == {"ring"}


def test_servers_that_nobody_counted_may_become_the_limit(curve):
    """Sixteen servers are not seen to be few with 8 workers, and are the limit with 64."""
    ranks = [1, 2, 4, 8]
    unknown = dataclasses.replace(curve(ranks, kind="servers", records=False, servers=16, alpha=0), servers=None)
    forecast = Forecast(unknown)
    far = np.array([64.0])
    low, high = forecast.intervals(far, far)[0][:, 0]
    assert low <= 0.18 < 0.1 + 0.04 * 2 * 64 / 16 < high
    assert any(one["exchange"] == "16 servers" for one in document(forecast, [])["exchanges"])
