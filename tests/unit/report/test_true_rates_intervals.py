"""Intervals of rates: how often they hold the rate of a run that had gone on, or of all such runs, by kind of noise.

The standard error of a coverage of 95 % from 1,000 runs is 0.7 points. Steps that are slow by design recur exactly, so
that nothing but the noise of the others is left to be wrong about; throttling half way is a trend, which is flagged:
its interval holds the mean of the run always.
"""

import numpy as np
import pytest
from generated_rates import lockstep, series

from hpcsynapse.report.entries import Entry, What, of_runs
from hpcsynapse.report.intervals import of_rate, of_repeats, of_steps, of_unlike
from hpcsynapse.report.regression import changes
from hpcsynapse.report.scaling import scaling_report

pytestmark = pytest.mark.slow  # many generated runs

TRIALS = 1000


def slowest(kind, rng, trials, ranks, steps):
    return series(kind, rng, (trials, ranks, steps)).max(axis=1)


def coverage(kind, ranks, steps, trials=TRIALS, seed=1):
    rng = np.random.default_rng(seed)
    truth = 1 / slowest(kind, rng, max(300, 400_000 // steps // ranks), ranks, steps).mean()
    work, held = np.ones(steps), 0
    for times in slowest(kind, rng, trials, ranks, steps):
        low, high = of_rate(work, times).interval()
        held += low <= truth <= high
    return held / trials


CASES = [
    ("even", 1, 30),
    ("even", 4, 200),
    ("even", 16, 1000),
    ("ar0.5", 4, 70),
    ("ar0.5", 4, 200),
    ("ar0.8", 4, 70),
    ("ar0.8", 1, 200),
    ("ar0.8", 4, 1000),
    ("1 % x10", 8, 200),
    ("1 % x10", 32, 200),
    ("1 % x10", 1, 1000),
    ("every10", 4, 400),
    ("every50", 4, 400),
    ("every50", 1, 200),
    ("every4", 4, 200),
]


@pytest.mark.parametrize(("kind", "ranks", "steps"), CASES)
def test_one_run_holds_the_rate_that_it_would_have_had_it_gone_on(kind, ranks, steps):
    assert 0.93 <= coverage(kind, ranks, steps) <= 0.975


def test_a_run_that_is_throttled_half_way_holds_its_own_mean():
    assert coverage("throttled", 4, 200, trials=100) == 1.0


def test_medians_of_blocks_would_miss_the_rate():
    """The reason for means: what a single slow step costs is not in a median."""
    rng = np.random.default_rng(2)
    runs = slowest("1 % x10", rng, 200, 8, 200)
    held = [
        ends[0] <= runs.mean() <= ends[1]
        for ends in (of_steps(float(np.median(times)), times).interval() for times in runs)
    ]
    assert np.mean(held) < 0.1


@pytest.mark.parametrize("kind", ["even", "1 % x10", "ar0.8"])
def test_an_efficiency_from_single_runs_holds_theirs_in_strong_scaling_too(kind):
    """Both sides vary: blocks on either side, and Welch's degrees of freedom."""
    rng, held, steps, trials = np.random.default_rng(3), 0, 410, 500
    means = [slowest(kind, rng, 1000, ranks, steps).mean() for ranks in (1, 8)]
    pairs = zip(*(slowest(kind, rng, trials, ranks, steps) for ranks in (1, 8)), strict=True)
    for one, eight in pairs:
        gain = of_unlike(of_rate(np.ones(steps), eight), 1, of_rate(np.ones(steps), one), 1)
        low, high = gain.interval()
        held += low <= means[0] / means[1] <= high
    assert 0.93 <= held / trials <= 0.98


@pytest.mark.parametrize("between", [0.01, 0.03, 0.05])
@pytest.mark.parametrize(("baseline", "point"), [(1, 3), (1, 5), (3, 1), (5, 1), (3, 3), (5, 5), (3, 5)])
def test_unlike_numbers_of_repeats_hold_the_ratio_of_all_such_runs(baseline, point, between):
    """A side with one run has 200 steps of 5 % noise: much less than runs differ by."""
    rng = np.random.default_rng(4)
    held, trials = 0, 500
    for _ in range(trials):
        sides = []
        for count in (baseline, point):
            rates = np.exp(rng.normal(0, between, count))
            alone = of_rate(rates[0] * np.ones(30), np.exp(rng.normal(0, 0.02, 30)))
            sides.append(alone if count == 1 else of_repeats(list(rates)))
        low, high = of_unlike(sides[1], point, sides[0], baseline).interval()
        held += low <= 1.0 <= high
    assert 0.92 <= held / trials <= 0.99  # 93 to 97 %, and what 500 trials may differ by


def test_a_row_says_when_its_baseline_has_one_run_or_two():
    rng = np.random.default_rng(5)
    base, point = ([lockstep(0.1 * series("even", rng, (ranks, 200))) for _ in range(5)] for ranks in (1, 4))
    for count, flag in ((1, "one-repeat"), (2, "few-repeats"), (3, "")):
        row = scaling_report([*base[:count], *point], scaling="weak").points[-1]
        assert [one for one in row.flags.split() if one.endswith(("repeat", "repeats"))] == flag.split()
        row = scaling_report([*base, *point[:count]], scaling="weak").points[-1]
        assert row.flags.split()[:1] == (flag.split() or row.flags.split()[:1])


@pytest.mark.parametrize("scaling", ["strong", "weak"])
def test_the_interval_of_an_epoch_based_report_is_that_of_its_value(scaling):
    """Epochs are recorded, and 1 % of steps are ten times as slow: the interval is around what they cost."""
    rng, held, trials = np.random.default_rng(6), 0, 60
    share = 8 if scaling == "strong" else 1
    means = [slowest("1 % x10", rng, 1000, ranks, 410).mean() for ranks in (1, 8)]
    for _ in range(trials):
        runs = [
            lockstep(series("1 % x10", rng, (1, 410)), batch=32 * share, steps_per_epoch=100),
            lockstep(series("1 % x10", rng, (8, 410)) / share, steps_per_epoch=100),
        ]
        row = scaling_report(runs, scaling=scaling).points[-1]
        held += row.efficiency_low <= means[0] / means[1] <= row.efficiency_high
    assert held / trials >= 0.85  # 95 % less three standard errors


@pytest.mark.parametrize("change", [1.10])
def test_a_tenth_more_time_by_periodic_slow_steps_is_called_slower(change):
    """Three repeats that differ by 2 % from one another, at the tolerance that compare has by itself."""
    rng, called, trials = np.random.default_rng(7), 0, 120
    slow = np.where(np.arange(210) % 20 == 0, 1 + 20 * (change - 1), 1.0)
    for _ in range(trials):
        sides = [
            [
                lockstep(0.1 * level * np.exp(rng.normal(0, 0.02, (1, 210))) * extra)
                for level in np.exp(rng.normal(0, 0.02, 3))
            ]
            for extra in (1.0, slow)
        ]
        (found,) = changes(*(of_runs(side) for side in sides))
        called += found.verdict == "slower"
    assert called / trials >= 0.75  # 0.85 expected, less three standard errors


@pytest.mark.parametrize("tolerance", [0.0, 0.03])
def test_nothing_changed_is_called_slower_in_at_most_one_of_forty(tolerance):
    rng, called, trials = np.random.default_rng(8), 0, 2000
    what = What("allreduce", "ddp", "m", "d", 1, 1, 32.0, 32.0)
    for _ in range(trials):
        sides = [Entry(what=what, repeats=3, rate=of_repeats(list(np.exp(rng.normal(0, 0.02, 3))))) for _ in range(2)]
        (found,) = changes(sides[:1], sides[1:], tolerance)
        called += found.verdict == "slower"
    assert called / trials <= 0.035
