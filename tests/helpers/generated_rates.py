"""Runs of known rates, without files: step times by generator, and ranks that wait for one another or do not."""

from pathlib import Path

import numpy as np
from series import correlated

from hpcsynapse.report.describe import describe
from hpcsynapse.report.loading import DTYPE, of_sums
from hpcsynapse.report.periods import periods
from hpcsynapse.report.sums import Sums

BATCH = 32


def lockstep(needed, *, between=0.0, warmup=10, batch=BATCH, wait=True, **facts):
    """Return a run whose ranks need these times (s, shape (ranks, steps)) and wait for the slowest in every step.

    `between` is what passes before every step outside of it (s, for all ranks); without `wait` ranks never wait.
    """
    ranks, steps = needed.shape
    longest = np.broadcast_to(needed.max(axis=0) if wait else needed, needed.shape)
    records = np.zeros(needed.shape, DTYPE)
    records["step"], records["samples"] = np.arange(steps), batch
    records["forward"], records["communicate"], records["total"] = needed, longest - needed, longest
    ends = np.cumsum(longest + between, axis=1)
    records["start"] = 1000.0 + ends - longest
    records["flags"][:, :warmup] = 1
    sums = Sums(records[0])
    for own in records:
        sums.add(own, np.zeros(steps, np.int64), periods(own))
    about = {"strategy": "allreduce", "engine": "ddp", "model": "m", "data": "d", "world_size": ranks, **facts}
    headers = [{**about, "rank": rank, "host": "node"} for rank in range(ranks)]
    return of_sums(Path(), describe(f"{ranks}", headers, None), sums)


def series(kind, rng, shape):
    """Return step times around 1 of a kind of noise, shape (..., ranks, steps), and the mean that they vary about.

    The mean is that of the slowest rank and of very many steps; None where it must be drawn.
    """
    steps = np.arange(shape[-1])
    if kind.startswith("ar"):
        return np.exp(correlated(rng, shape, float(kind[2:]), 0.05))
    noise = np.exp(rng.normal(0, 0.05, shape))
    if kind == "even":
        return noise
    if kind == "1 % x10":
        return noise * np.where(rng.random(shape) < 0.01, 10.0, 1.0)
    if kind.startswith("every"):  # every 10th five times as slow, from any step on
        recur = int(kind[5:])
        first = rng.integers(0, recur, (*shape[:-2], 1, 1))
        return noise * np.where((steps + first) % recur == 0, 5.0, 1.0)
    if kind == "throttled":
        return noise * np.where(steps >= shape[-1] // 2, 1.4, 1.0)
    if kind == "flips":  # a clock that goes down to 1.3 and up again, on average after 50 steps
        state = np.cumsum(rng.random((*shape[:-2], 1, shape[-1])) < 0.02, axis=-1) + rng.integers(0, 2)
        return noise * np.where(state % 2, 1.3, 1.0)
    raise ValueError(kind)
