"""The detected warm-up: what is found of known ones, how little is cut where there is none, and what a report says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series import correlated

from hpcsynapse.report.loading import load
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.report.warmup import BATCH, detected, limit

TRIALS, STEPS = 300, 200
INDEX = np.arange(STEPS)


def many(correlation, warm, seed=0, stragglers=0.02):
    """Return series of step times around 1 with lognormal noise and stragglers, shape (TRIALS, STEPS)."""
    rng = np.random.default_rng(seed)
    slow = np.where(rng.random((TRIALS, STEPS)) < stragglers, 2.0, 1.0)
    return warm * slow * np.exp(correlated(rng, (TRIALS, STEPS), correlation, 0.06))


def cuts(series):
    return np.array([detected(times) for times in series])


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_where_there_is_no_warm_up_nearly_nothing_is_cut(correlation):
    found = cuts(many(correlation, 1.0))
    assert found.mean() <= (0.02 if correlation < 0.9 else 0.05) * STEPS
    assert np.mean(found == 0) >= 0.8


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_a_slow_beginning_is_cut_whole_and_little_more(correlation):
    found = cuts(many(correlation, np.where(INDEX < 20, 1.5, 1.0)))
    assert np.mean(found >= 20) == 1
    assert np.median(found) <= 25
    assert np.mean(found <= 60) >= 0.85


def test_a_beginning_that_is_slower_by_less_than_two_standard_deviations_is_found_mostly():
    assert np.mean(cuts(many(0.0, np.where(INDEX < 20, 1.1, 1.0))) >= 15) >= 0.9


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_a_decay_is_cut_where_it_is_lost_in_the_noise(correlation):
    warm = 1 + np.exp(-INDEX / 15)  # 6 %, the noise, is left after 42 steps, 1 % after 69
    series = many(correlation, warm, stragglers=0.0)
    found = cuts(series)
    assert 40 <= np.median(found) <= 70
    left = [np.median(times[cut:]) for times, cut in zip(series, found, strict=True)]
    assert np.mean(np.median(series, axis=1)) > 1.015  # what would be reported of all steps
    assert np.mean(left) == pytest.approx(1.0, abs=0.01)


def test_the_beginning_of_a_run_that_grows_slower_is_no_warm_up():
    found = cuts(many(0.3, np.where(INDEX < 50, 1.0, 1.4)))
    assert found.max() == 0


def test_a_lone_straggler_is_no_warm_up():
    series = many(0.0, 1.0, seed=5, stragglers=0.0)
    series[:, [2, 11]] *= 5
    assert np.mean(cuts(series)) < 0.02 * STEPS


def test_a_run_that_never_settles_is_cut_by_half_and_not_more():
    assert detected(np.geomspace(2.0, 1.0, STEPS)) == limit(STEPS) == 100
    assert detected(np.geomspace(2.0, 1.0, 59)) == limit(59) == 25


def test_few_steps_and_equal_steps_show_no_warm_up():
    assert detected(np.array([9.0] * 10 + [1.0] * 19)) == 0
    assert detected(np.array([9.0] * 10 + [1.0] * 20)) == 10
    assert detected(np.full(1000, 0.1)) == 0
    assert detected(np.empty(0)) == 0


@settings(max_examples=100)
@given(times=st.lists(st.floats(1e-6, 1e6), max_size=120), unit=st.sampled_from([1.0, 2.0**-20, 2.0**20]))
def test_a_cut_is_of_whole_batches_and_never_more_than_half(times, unit):
    cut = detected(np.array(times) * unit)
    assert cut % BATCH == 0
    assert 0 <= cut <= limit(len(times)) <= len(times) / 2


def test_a_report_leaves_the_warm_up_out_and_says_how_much(make_run):
    warm = np.where(np.arange(160) < 30, 0.3, 0.1)
    flagged_too = make_run("one", 2, warm, steps=160, warmup=10, noise=0.01)
    (point,) = scaling_report([load(flagged_too)]).points
    assert (point.warmup_steps, point.steps) == (30, 130)
    assert point.step_time_s == pytest.approx(0.1, rel=0.01)
    assert point.flags == "one-repeat"
    repeat = make_run("two", 2, warm, steps=160, warmup=0, noise=0.01, seed=1)
    (point,) = scaling_report([load(flagged_too), load(repeat)]).points
    assert point.warmup_steps + point.steps == 320
    assert 60 <= point.warmup_steps <= 70
    (point,) = scaling_report([load(make_run("three", 2, np.geomspace(0.2, 0.1, 160), steps=160))]).points
    assert (point.warmup_steps, point.steps) == (80, 80)
    assert "still-warming" in point.flags.split()


def test_epochs_with_detected_warm_up_are_not_timed_where_there_are_others(make_run):
    run = load(make_run("run", 1, np.where(np.arange(100) < 10, 0.3, 0.1), steps=100, epoch_steps=20))
    np.testing.assert_allclose(run.epoch_times, [2.0] * 4, rtol=1e-5)
    assert run.detected == 10


def test_of_asynchronous_workers_the_flagged_steps_are_counted(rank_writer, tmp_path):
    for rank in range(2):
        rank_writer(tmp_path, rank, 2, [0.1] * 200, strategy="ps-async", engine="tcp", warmup=7)
    (point,) = scaling_report([load(tmp_path)]).points
    assert (point.warmup_steps, point.steps) == (7, 193)
