"""Remarks: silent in 99 of 100 ordinary runs, spoken where an interval cannot hold or a rate is not the run's."""

import numpy as np
import pytest
from generated_rates import lockstep, series

from hpcsynapse.report.entries import Entry, What
from hpcsynapse.report.intervals import BLOCKS, Estimate
from hpcsynapse.report.points import FLAGS
from hpcsynapse.report.regression import changes, sentence
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.report.shape import correlated, cycle, memory, slow_steps, trend

pytestmark = pytest.mark.slow

TRIALS = 600
FLAG_NAMES = ("slow-steps", "trend", "correlated")


def told(times):
    found = {
        "slow-steps": slow_steps(times) is not None,
        "trend": trend(times),
        "correlated": correlated(memory(times), len(times) // BLOCKS),
    }
    return {name for name, spoken in found.items() if spoken}


def share(runs, *flags):
    return np.mean([bool(told(times) & set(flags or FLAG_NAMES)) for times in runs])


def slowest(kind, ranks, steps, seed=11):
    return series(kind, np.random.default_rng(seed), (TRIALS, ranks, steps)).max(axis=1)


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
@pytest.mark.parametrize(("ranks", "steps"), [(1, 40), (1, 200), (8, 200), (8, 1000)])
def test_silent_in_clean_runs(noise, ranks, steps):
    rng = np.random.default_rng(12)
    runs = np.exp(rng.normal(0, noise, (TRIALS, ranks, steps))).max(axis=1)
    assert share(runs) <= 0.01


@pytest.mark.parametrize("steps", [200, 1000])
def test_silent_where_one_step_resembles_the_next_and_the_run_is_long_enough(steps):
    assert share(slowest("ar0.5", 4, steps)) <= 0.015


@pytest.mark.parametrize(
    ("kind", "ranks", "steps", "flag"),
    [
        ("1 % x10", 8, 200, "slow-steps"),
        ("1 % x10", 1, 1000, "slow-steps"),
        ("every50", 1, 400, "slow-steps"),
        ("every10", 4, 400, "slow-steps"),
        ("ar0.95", 4, 200, "correlated"),
        ("ar0.8", 1, 70, "correlated"),
        ("ar0.8", 4, 70, "correlated"),
        ("flips", 4, 400, "correlated"),
        ("throttled", 4, 200, "trend"),
        ("throttled", 1, 400, "trend"),
    ],
)
def test_spoken_where_it_is_so(kind, ranks, steps, flag):
    assert share(slowest(kind, ranks, steps), flag) >= 0.9


@pytest.mark.parametrize(("size", "fades", "steps"), [(0.5, 100, 110), (0.5, 100, 210), (0.2, 300, 210)])
def test_a_run_that_is_still_settling_is_a_trend(size, fades, steps):
    rng = np.random.default_rng(13)
    warm = 1 + size * np.exp(-np.arange(steps) / fades)
    assert share(warm * np.exp(rng.normal(0, 0.03, (TRIALS, steps))), "trend") >= 0.9


def test_slow_steps_that_recur_are_a_cycle_and_others_are_not():
    rng = np.random.default_rng(14)
    times = np.exp(rng.normal(0, 0.02, 200))
    times[3::4] += 0.5
    assert cycle(times) == 4
    times[10] += 1.0
    assert cycle(times) == 1
    assert cycle(np.ones(200)) == cycle(np.exp(rng.normal(0, 0.1, 200))) == 1


def test_the_report_says_how_much():
    rng = np.random.default_rng(15)
    steps = 0.1 * np.exp(rng.normal(0, 0.02, (2, 410)))
    slow = np.where(np.arange(410) % 10 == 9, 5.0, 1.0)
    (row,) = scaling_report([lockstep(steps * slow)]).points
    (flag,) = [one for one in row.flags.split() if one.startswith("slow-steps")]
    assert int(flag.partition("=")[2][:-1]) == pytest.approx(40, abs=3)
    (row,) = scaling_report([lockstep(steps, between=0.05)]).points
    assert "between-steps=33%" in row.flags.split()
    assert "no-phases" not in row.flags.split()
    assert {"slow-steps=N%", "between-steps=N%", "correlated", "trend", "no-phases", "several-starts"} <= set(FLAGS)


WHAT = What("allreduce", "ddp", "m", "d", 1, 1, 32.0, 32.0)
DAY = 86400.0


def side(rate, variance, begun=()):
    return [Entry(what=WHAT, repeats=3, rate=Estimate(rate, variance, 2), begun=begun)]


def test_what_is_unclear_is_undecided():
    found = changes(side(1.0, 0.01), side(1.0, 0.01))
    assert sentence(found, 0.03) == "undecided at a tolerance of 0.03: 1 unclear"
    assert sentence(changes(side(1.0, 1e-8), side(1.0, 1e-8)), 0.03).startswith("no regression")
    assert sentence(changes(side(1.0, 1e-8), side(0.5, 1e-8)), 0.03).startswith("regression")


@pytest.mark.parametrize(
    ("reference", "candidate", "spoken"),
    [
        ((0.0, 600.0), (DAY, DAY + 600.0), True),
        ((DAY, DAY + 600.0), (0.0, 600.0), True),
        ((0.0, DAY), (600.0, DAY + 600.0), False),
        ((0.0, 600.0), (1200.0, 1800.0), False),
        ((), (0.0, 600.0), False),
    ],
)
def test_repeats_of_one_day_against_those_of_another_are_marked(reference, candidate, spoken):
    (found,) = changes(side(1.0, 1e-4, reference), side(1.0, 1e-4, candidate))
    assert ("other-day" in found.flags.split()) == spoken
