"""Knee, deadline and budget; limits of what is predicted."""

import dataclasses

import numpy as np
import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.predict.forecast import Forecast, Goals, doublings
from hpcsynapse.predict.network import with_network
from hpcsynapse.predict.rows import rows
from hpcsynapse.predict.summary import sentences

SAMPLES = 32_000.0  # of an epoch; 1000 steps on one rank


def test_the_knee_is_where_doubling_brings_half_of_the_ideal_gain(curve):
    forecast = Forecast(curve([1, 2, 4, 8], alpha=0.001))
    knee = float(forecast.knee)
    speedup = forecast.speedups(np.array([knee, 2 * knee, knee + 1, 2 * knee + 2]))
    assert speedup[1] / speedup[0] >= 1.5 > speedup[3] / speedup[2]
    assert Forecast(curve([1, 2, 4, 8], alpha=0, beta=1e-6)).knee is None


def test_deadline_and_budget(curve):
    plain = Forecast(curve([1, 2, 4, 8], alpha=0, beta=0.05))
    ranks = np.arange(1, 200, dtype=float)
    epochs = SAMPLES / (32 * ranks / plain.model.time(ranks, ranks)[0])
    goals = Goals(epochs=10, deadline_s=60.0, budget=10 * epochs[-1] * 199 / 3600)
    forecast = Forecast(plain.curve, goals)
    assert forecast.deadline == ranks[np.flatnonzero(10 * epochs <= 60)[0]]
    assert forecast.budget == 199  # with more ranks every epoch costs more
    found = {row.ranks: row for row in rows(forecast, [16])}
    assert "deadline" in found[forecast.deadline].flags
    assert "budget" in found[199].flags
    assert found[16].rank_hours == pytest.approx(found[16].epoch_time_s * 16 / 3600)
    assert found[16].epoch_time_s == pytest.approx(epochs[15])


def test_goals_out_of_reach(curve):
    given = curve([1, 2, 4])
    assert Forecast(given, Goals(deadline_s=1e-6)).deadline is None
    assert Forecast(given, Goals(budget=1e-9)).budget is None
    unknown = dataclasses.replace(given, epoch_samples=None)
    with pytest.raises(SpecError, match=r"--deadline needs the time of an epoch.*--epoch-samples"):
        _ = Forecast(unknown, Goals(deadline_s=60.0)).deadline
    assert Forecast(unknown, Goals(deadline_s=60.0, epoch_samples=320.0)).deadline == 1


def test_strong_scaling_ends_where_a_rank_has_no_sample_left(curve):
    forecast = Forecast(curve([1, 2, 4, 8], scaling="strong", alpha=0, beta=1e-7))
    assert forecast.most == 256
    (row,) = [row for row in rows(forecast, [128]) if row.ranks == 128]
    assert (row.batch_per_rank, row.efficiency) == (2, pytest.approx(1, abs=0.01))
    assert forecast.knee is None


def test_a_server_that_is_busy_all_the_time_is_the_limit(curve):
    forecast = Forecast(curve([1, 2, 4, 8, 16], kind="queue", beta=0.01, alpha=0, servers=2))
    far = rows(forecast, [100_000])[-1]
    assert far.throughput == pytest.approx(32 / 0.01, rel=0.01)  # a push and a pull take 2/2 models
    assert "far" in far.flags


def test_rows_hold_measured_and_asked_points_with_intervals_around_them(curve):
    found = rows(Forecast(curve([1, 2, 4, 8], noise=0.01)), [3, 16, 64])
    assert [row.ranks for row in found if row.ranks <= 64 and "knee" not in row.flags.split()] == [
        1,
        2,
        3,
        4,
        8,
        16,
        64,
    ]
    for row in found:
        assert row.step_time_s_low <= row.step_time_s <= row.step_time_s_high
        assert row.speedup_low <= row.speedup <= row.speedup_high
        assert (row.measured_speedup is not None) == ("measured" in row.flags)


def test_several_ranks_on_the_nodes_of_mixed(curve):
    given = curve([2, 4, 8, 16], kind="queue", strategy="mixed", per_node=2, beta=0.01, alpha=0)
    assert given.by_node
    assert given.members(np.array([8.0]), np.array([4.0])) == 4


def test_one_node_says_nothing_about_a_network(curve):
    forecast = Forecast(curve([1, 2, 4], per_node=4), Goals(deadline_s=1e-3))
    assert (forecast.most, doublings(forecast.curve), forecast.knee, forecast.deadline) == (4, [], None, None)
    assert all("one-node" in row.flags.split() for row in rows(forecast, []))
    told = "\n".join(sentences(forecast))
    assert "nothing is said beyond 4 ranks; measure two nodes, or give --network" in told
    assert "knee: beyond 4 ranks (one-node)" in told
    assert "not with 4 ranks or fewer (one-node)" in told


def test_a_network_that_is_given_is_used_between_nodes(curve, exchanged):
    """The truth between nodes is 0.5 ms and 40 ms a model; inside a node it is 1 ms a model."""
    given = with_network(curve([1, 2, 4, 8], per_node=8, beta=0.001), 4.8e6 / 0.04, 0.0005)
    forecast = Forecast(given)
    found = {row.ranks: row for row in rows(forecast, [16, 64])}
    for ranks in (16, 64):
        assert found[ranks].step_time_s == pytest.approx(0.1 + exchanged("ring", [ranks])[0], rel=0.01)
        assert found[ranks].step_time_s <= found[ranks].step_time_s_high
        assert "given-network" in found[ranks].flags
    assert "one-node" in found[8].flags
    assert found[64].step_time_s_high > 1.1 * found[64].step_time_s  # a data sheet gives the best that it can do
    with pytest.raises(SpecError, match="measured on several nodes"):
        with_network(curve([1, 2, 4]), 1e9, 1e-6)
    with pytest.raises(SpecError, match="does not tell how many bytes"):
        with_network(curve([1, 2, 4], per_node=4, records=False), 1e9, 1e-6)


def test_recommendations_far_beyond_what_was_measured_are_marked(curve):
    forecast = Forecast(curve([1, 2, 4, 8], alpha=0.00001))
    assert forecast.knee > 16 * 8
    (knee,) = [row for row in rows(forecast, []) if "knee" in row.flags.split()]
    assert "far" in knee.flags.split()
    assert f"knee: {forecast.knee} ranks (far)" in "\n".join(sentences(forecast))


def test_laws_stand_beside_strong_scaling_only(curve):
    weak, strong = (Forecast(curve([1, 2, 4, 8], scaling=kind)) for kind in ("weak", "strong"))
    assert (weak.amdahl, weak.usl) == (None, None)
    assert strong.amdahl is not None
    assert "Amdahl" not in "\n".join(sentences(weak))
    assert "% serial" in "\n".join(sentences(strong))
