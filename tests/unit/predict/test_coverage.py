"""Intervals of predictions hold what 95 % promise, neither much less nor always, and repeats narrow them.

Runs are drawn as they are measured: every rank computes a lognormal time in every step, the slowest is waited for, and
a ring is gone around; each run may have a speed of its own. The truth is the mean over all runs and steps.
"""

import numpy as np
import pytest

from hpcsynapse.predict import cost
from hpcsynapse.predict.curve import Curve, Observation
from hpcsynapse.predict.forecast import Forecast
from hpcsynapse.predict.samples import RunSamples, mean_error
from hpcsynapse.predict.slowest import dependence, spread
from hpcsynapse.report.intervals import of_repeats

COMPUTE, ALPHA, BETA, STEPS = 0.1, 2e-4, 0.01, 120
FAR = np.array([16.0, 256.0])
TRIALS = 40


def ring(ranks):
    count = np.asarray(ranks, float)
    return ALPHA * cost.rounds("ring", count) + BETA * cost.volume("ring", count)


def run(rng, ranks, noise, between):
    """Return the mean step time of a run, its relative standard error, and its samples."""
    speed = np.exp(between * rng.standard_normal())
    own = speed * COMPUTE * np.exp(noise * rng.standard_normal((ranks, STEPS)))
    exchange = speed * float(ring([ranks])[0]) * np.exp(noise * rng.standard_normal(STEPS))
    total, level = own.max(axis=0) + exchange, float(own.mean())
    excess = dependence(own) if ranks > 1 else (0.0, 0.0)
    samples = RunSamples(
        level=level,
        relative=own.T.ravel() / level,
        excess=(excess[0] / level, excess[1] / level),
        communicate=float(exchange.mean()),
        backward=0.0,
        overlaps=False,
        phases_known=ranks > 1,
        gradient_bytes=4e6,
        level_error=mean_error(own.mean(axis=0)) / level,
        communicate_error=mean_error(exchange),
    )
    return float(total.mean()), mean_error(total) / float(total.mean()), samples


def observe(rng, ranks, noise, between, repeats):
    times, errors, samples = zip(*(run(rng, ranks, noise, between) for _ in range(repeats)), strict=True)
    mean = of_repeats(times)
    return Observation(
        ranks=ranks,
        nodes=ranks,
        batch=32.0,
        time=mean.value,
        repeats=repeats,
        samples=samples,
        error=errors[0] if repeats == 1 else float(np.sqrt(mean.variance)),
        freedom=mean.freedom or 5,
    )


def forecast(seed, noise, between, repeats):
    rng = np.random.default_rng(seed)
    points = tuple(observe(rng, ranks, noise, between, repeats) for ranks in (1, 2, 4, 8))
    return Forecast(Curve(
        strategy="allreduce", engine="e", model="m", data="d", scaling="weak", baseline_strategy="allreduce",
        baseline_ranks=1, base_time=points[0].time, base_throughput=None, base_epoch_s=None, epoch_samples=None,
        seconds=True, batches_known=True, nodes_known=True, observations=points, collective="ring",
        alternatives=("tree",),
    ))  # fmt: skip  # a signature


def truth(noise):
    many = np.exp(noise * np.random.default_rng(99).standard_normal(2_000_000))
    return COMPUTE * spread(many).slowest(FAR) + ring(FAR) * np.exp(noise**2 / 2)


def held_and_width(noise, between, repeats):
    ends = np.stack([forecast(seed, noise, between, repeats).intervals(FAR, FAR)[0] for seed in range(TRIALS)])
    true = truth(noise)
    return np.mean((ends[:, 0] <= true) & (true <= ends[:, 1]), axis=0), np.median(ends[:, 1] / ends[:, 0], axis=0)


# Seen in 150 trials each, 16 to 1024 ranks, steps of 200: 98 to 99, 92 to 93 and 87 to 91 % with one run a point, 98.7
# to 99.3 % with three.
@pytest.mark.slow
@pytest.mark.parametrize(("noise", "between"), [(0.03, 0.0), (0.1, 0.0), (0.03, 0.03)])
def test_intervals_hold_and_repeats_narrow_them(noise, between):
    held, width = held_and_width(noise, between, 1)
    again, narrower = held_and_width(noise, between, 3)
    assert (held >= 0.8).all()  # of 40 trials 33 or more hold in 99 of 100 tries where 90 % do
    assert (again >= 0.85).all()
    assert (narrower < width).all()
    assert narrower[0] < 1.1  # 1.24 was assumed before


def test_a_quiet_ring_is_known_well():
    """Four runs of 120 steps with 3 % of noise tell 16 ranks to a few per cent."""
    found = forecast(0, 0.03, 0.0, 1)
    (low, high), true = found.intervals(FAR, FAR)[0], truth(0.03)
    assert (low < true).all()
    assert (true < high).all()
    assert (high / low < [1.05, 2.0]).all()
