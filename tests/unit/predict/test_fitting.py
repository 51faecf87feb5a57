"""Fits recover the model that made the points, and their intervals hold what they promise."""

import dataclasses

import numpy as np
import pytest

from hpcsynapse.predict.fitting import fit, left_out_error, places
from hpcsynapse.predict.forecast import Forecast


@pytest.mark.parametrize("kind", ["ring", "tree", "binomial", "star", "servers", "queue"])
@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("scaling", ["weak", "strong"])
def test_coefficients_are_recovered_exactly_without_noise(curve, kind, records, scaling):
    given = curve([2, 3, 4, 8, 16], kind=kind, records=records, scaling=scaling, strategy="x", beta=0.02, alpha=0.001)
    model = fit(given)
    if kind in ("binomial", "star"):  # as many rounds as models: only their sum shows
        assert model.alpha[0, 1] + model.beta[0, 1] == pytest.approx(0.021)
    elif records or scaling == "strong" or kind in ("ring", "tree"):  # else rounds and computation never change
        assert (model.alpha[0, 1], model.beta[0, 1]) == pytest.approx((0.001, 0.02), rel=1e-3)
    ranks, nodes = places(given.observations)
    assert model.time(ranks, nodes)[0] == pytest.approx([point.time for point in given.observations], rel=2e-3)


def test_communication_behind_backward_is_added_again(curve):
    given = curve([1, 2, 4, 8], hidden=0.3)
    seen = [point.samples[0].communicate for point in given.observations]
    assert seen[1] == pytest.approx(0.041 - 0.03)
    model = fit(given)
    assert (model.alpha[0, 1], model.beta[0, 1]) == pytest.approx((0.0005, 0.04), rel=1e-6)
    assert model.hidden == pytest.approx(0.3)
    assert model.parts(*places(given.observations))[1][0] == pytest.approx(seen)


def test_links_within_and_between_nodes_have_their_own_cost(curve):
    inside, between = curve([1, 2, 4], per_node=4, beta=0.001), curve([8, 16, 32], per_node=4)
    given = dataclasses.replace(inside, observations=inside.observations + between.observations)
    model = fit(given)
    assert model.beta[0] == pytest.approx([0.001, 0.04], rel=1e-6)
    assert given.ranks_per_node == 4
    assert left_out_error(given, given.observations[-1]) == pytest.approx(0, abs=1e-6)


def test_one_number_of_exchanging_ranks_does_not_tell_latency_from_bandwidth(curve, exchanged):
    given = curve([1, 2])
    seen = exchanged("ring", [2])[0]
    assert fit(given).alpha[0, 1] == 0
    far = np.array([64.0])
    low, high = Forecast(given).intervals(far, far)[0][:, 0]
    assert low == pytest.approx(0.1 + seen * 2 * 63 / 64, rel=0.2)  # all bandwidth
    assert high == pytest.approx(0.1 + seen * 63, rel=0.2)  # all latency
    assert low < 0.1 + exchanged("ring", far)[0] < high


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "beta", "trials"), [("ring", 0.04, 40), ("queue", 0.01, 12)])
def test_intervals_cover_the_truth(curve, exchanged, kind, beta, trials):
    """95 % are promised for points four times beyond what was measured; 93 to 100 % were seen."""
    far, hits, widths = np.array([64.0]), [], []
    truth = 0.1 + exchanged(kind, far, alpha=0.001, beta=beta)[0]
    for seed in range(trials):
        given = curve([1, 2, 4, 8, 16], kind=kind, alpha=0.001, beta=beta, noise=0.02, seed=seed)
        (times, _) = Forecast(given).intervals(far, far)
        low, high = times[:, 0]
        hits.append(low <= truth <= high)
        widths.append((high - low) / truth)
    assert np.mean(hits) >= 0.9
    assert np.median(widths) < 0.6


def test_every_point_is_predicted_from_the_others(curve):
    given = curve([1, 2, 4, 8])
    assert [left_out_error(given, point) for point in given.observations] == pytest.approx([0] * 4, abs=1e-9)
    slow = dataclasses.replace(given.observations[-1], time=given.observations[-1].time * 1.25)
    worse = dataclasses.replace(given, observations=(*given.observations[:-1], slow))
    assert left_out_error(worse, slow) == pytest.approx(1 / 1.25 - 1)


def test_what_nothing_is_known_of_has_no_error(curve):
    pair = curve([1, 2])
    assert [left_out_error(pair, point) for point in pair.observations] == [None, None]
    table = curve([1, 2, 4], records=False)
    assert left_out_error(table, table.observations[0]) is None  # what a step takes without an exchange
    nodes = curve([1, 2, 4, 8], per_node=4)
    assert left_out_error(nodes, nodes.observations[-1]) is None  # the only one between nodes


def test_misfit_is_seen(curve):
    assert fit(curve([1, 2, 4, 8, 16, 32])).misfit < 0.02
    bent = curve([1, 2, 4, 8, 16, 32], kind="star")
    assert fit(dataclasses.replace(bent, collective="tree")).misfit > 0.1
