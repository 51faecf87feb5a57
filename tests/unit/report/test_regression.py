"""Known answers: no change is no alarm, a slowdown beyond the tolerance is found, unlike points are not compared."""

import math

import numpy as np
import pytest
from series import run_of_steps

from hpcsynapse.errors import SpecError
from hpcsynapse.report.entries import Entry, What, of_runs
from hpcsynapse.report.intervals import of_repeats, of_steps
from hpcsynapse.report.loading import load
from hpcsynapse.report.regression import changes, sentence

POINTS = 12


def what(ranks=1, **facts):
    told = {
        "strategy": "allreduce",
        "engine": "ddp",
        "model": "m",
        "data": "d",
        "nodes": 1,
        "batch_per_rank": 32.0,
        "optimizer": "sgd",
        "hardware": "gpu",
        "threads": "1",
        **facts,
    }
    return What(ranks=ranks, global_batch=32.0 * ranks, **told)


def side(rng, slowdown=1.0, *, points=1, repeats=3, between=0.03):
    """Return points whose runs differ by `between` (standard deviation of the logarithm of their time)."""
    return [
        Entry(
            what=what(ranks),
            repeats=repeats,
            rate=of_repeats(np.exp(rng.normal(0, between, repeats)) / (slowdown * ranks)),
        )
        for ranks in range(1, points + 1)
    ]


def verdicts(trials, tolerance, before, after):
    """Return the verdicts of many comparisons, a list for each."""
    rng = np.random.default_rng(31)
    return [[one.verdict for one in changes(before(rng), after(rng), tolerance)] for _ in range(trials)]


def share(found, verdict):
    return sum(verdict in one for one in found) / len(found)


@pytest.mark.parametrize("repeats", [2, 3, 5])
@pytest.mark.parametrize(("points", "trials"), [(1, 1000), (POINTS, 150)])
def test_no_change_raises_no_alarm_even_without_any_tolerance(points, trials, repeats):
    def unchanged(rng):
        return side(rng, points=points, repeats=repeats)

    found = verdicts(trials, 0.0, unchanged, unchanged)
    assert share(found, "slower") <= 0.05
    assert share(found, "faster") <= 0.05


def test_without_the_correction_a_study_of_many_points_would_often_fail():
    rng = np.random.default_rng(32)
    alarms = 0
    for _ in range(150):
        found = changes(side(rng, points=POINTS, repeats=5), side(rng, points=POINTS, repeats=5), 0.0)
        alarms += any(one.time_ratio_low > 1 for one in found)
    assert alarms / 150 > 0.15  # 1 - 0.975^12 = 0.26


@pytest.mark.parametrize("points", [1, POINTS])
def test_a_slowdown_of_a_tenth_is_found(points):
    found = verdicts(
        100,
        0.05,
        lambda rng: side(rng, points=points, repeats=5, between=0.01),
        lambda rng: side(rng, 1.10, points=points, repeats=5, between=0.01),
    )
    assert share(found, "slower") >= 0.95
    assert sum(one.count("slower") for one in found) >= 0.9 * 100 * points


def test_a_slowdown_inside_the_tolerance_is_none():
    found = verdicts(
        200, 0.05, lambda rng: side(rng, repeats=5, between=0.01), lambda rng: side(rng, 1.03, repeats=5, between=0.01)
    )
    assert share(found, "slower") == 0
    assert share(found, "same") >= 0.6


def test_a_slowdown_of_just_the_tolerance_is_rarely_called_one():
    found = verdicts(2000, 0.05, side, lambda rng: side(rng, 1.05))
    assert share(found, "slower") <= 0.035


@pytest.mark.slow
def test_a_single_run_is_taken_to_vary_as_the_repeats_of_the_other_side():
    def alone(rng):
        time = math.exp(rng.normal(0, 0.03))
        steps = run_of_steps(rng, time, 200)
        return [Entry(what=what(), repeats=1, rate=of_steps(1 / float(np.median(steps)), 1 / steps))]

    for before, after in ((side, alone), (alone, side)):
        assert share(verdicts(300, 0.0, before, after), "slower") <= 0.05
    lone = verdicts(300, 0.0, alone, alone)
    assert share(lone, "slower") > 0.1  # what `one-repeat` warns of: steps of a run do not show how runs differ


@pytest.mark.slow
def test_steps_of_two_runs_raise_no_alarm(make_run):
    rng = np.random.default_rng(33)
    alarms = 0
    for trial in range(200):
        pair = [load(make_run(f"{trial}-{name}", 1, run_of_steps(rng, 0.1), steps=400)) for name in "ab"]
        (found,) = changes(of_runs(pair[:1]), of_runs(pair[1:]), 0.0)
        assert found.flags.startswith("one-repeat")
        alarms += found.verdict == "slower"
    assert alarms / 200 <= 0.05


def test_a_slower_run_of_known_steps(make_run):
    runs = [load(make_run(name, 2, time, noise=0.01)) for name, time in (("a", 0.1), ("b", 0.11))]
    (found,) = changes(of_runs(runs[:1]), of_runs(runs[1:]))
    assert (found.verdict, found.batch_per_rank, found.global_batch) == ("slower", 32, 64)
    assert found.time_ratio == pytest.approx(1.1, rel=2e-3)
    assert 1.05 < found.time_ratio_low < found.time_ratio < found.time_ratio_high < 1.12
    assert found.throughput_ratio == pytest.approx(1 / found.time_ratio)
    assert found.throughput_ratio_low == pytest.approx(1 / found.time_ratio_high)
    assert found.candidate_throughput / found.reference_throughput == pytest.approx(found.throughput_ratio)
    assert found.candidate_step_time_s / found.reference_step_time_s == pytest.approx(found.time_ratio)
    (back,) = changes(of_runs(runs[1:]), of_runs(runs[:1]))
    assert back.verdict == "faster"


def test_asynchronous_runs_are_compared_by_throughput(make_run):
    runs = [load(make_run(name, 3, time, noise=0.01, strategy="ps-async")) for name, time in (("a", 0.1), ("b", 0.12))]
    (found,) = changes(of_runs(runs[:1]), of_runs(runs[1:]))
    assert found.verdict == "slower"
    assert found.throughput_ratio == pytest.approx(found.candidate_throughput / found.reference_throughput)


def test_too_few_steps_are_unclear(make_run):
    runs = [load(make_run(name, 1, time, steps=20)) for name, time in (("a", 0.1), ("b", 0.2))]
    (found,) = changes(of_runs(runs[:1]), of_runs(runs[1:]))
    assert (found.verdict, found.time_ratio_low, found.p_slower) == ("unclear", None, None)
    assert "few-steps" in found.flags


def test_runs_that_record_no_samples_have_a_step_time_all_the_same(make_run):
    runs = [load(make_run(name, 1, time, noise=0.01, batch=0)) for name, time in (("a", 0.1), ("b", 0.2))]
    (found,) = changes(of_runs(runs[:1]), of_runs(runs[1:]))
    assert (found.verdict, found.reference_throughput) == ("slower", None)


def test_points_of_one_side_are_listed_with_what_they_differ_in():
    rng = np.random.default_rng(34)
    before, after = side(rng, points=3), side(rng, points=2)
    after += [Entry(what=what(3, hardware="K80 12 GB"), repeats=1, rate=before[2].rate)]
    found = changes(before, after)
    assert [(one.ranks, one.verdict) for one in found][2:] == [(3, "missing"), (3, "new")]
    assert found[2].flags == "other-hardware=K80_12_GB"
    assert (found[2].time_ratio, found[2].candidate_repeats, found[3].reference_repeats) == (None, None, None)
    assert sentence(found, 0.05).endswith("1 missing, 1 new")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"model": "other"}, r"model \(m and other\)"),
        ({"batch_per_rank": 64.0}, r"batch_per_rank \(32 and 64\)"),
        ({"hardware": ""}, r"hardware \(gpu and unknown\)"),
        ({"threads": "2"}, r"threads \(1 and 2\)"),
    ],
)
def test_unlike_runs_are_refused_with_the_difference(facts, told):
    (one,) = side(np.random.default_rng(35))
    with pytest.raises(SpecError, match=told):
        changes([one], [Entry(what=what(**facts), repeats=1, rate=one.rate)])


@pytest.mark.parametrize("tolerance", [-0.01, 1.01, math.nan])
def test_a_tolerance_is_a_fraction(tolerance):
    (one,) = side(np.random.default_rng(36))
    with pytest.raises(SpecError, match="from 0 to 1"):
        changes([one], [one], tolerance)
