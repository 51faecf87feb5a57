"""How failures, saving and coming back decide what is left of a run's time (Young 1974, Daly 2006)."""

from __future__ import annotations

import math

DAY = 86400.0
# What is believed before anything is seen: 2 failures in 1,000 node-days, as sure of it as one failure seen would make.
PRIOR_RATE = 2.0
_PRIOR_FAILURES = 1.0
_HALVINGS = 200


def failure_rate(failures: int, node_days: float) -> float:
    """Return failures per 1,000 node-days, from what was seen and the belief before (mean of a Gamma distribution)."""
    return 1000 * (_PRIOR_FAILURES + failures) / (1000 * _PRIOR_FAILURES / PRIOR_RATE + node_days)


def mean_time_between_failures(nodes: int, rate: float) -> float:
    """Return the seconds between two failures of any of the nodes, at a rate per 1,000 node-days; infinite at 0."""
    return 1000 * DAY / (nodes * rate) if rate else math.inf


def goodput(interval: float, save: float, restart: float, between: float, write: float = 0.0) -> float:
    """Return the part of the time that makes progress which lasts, in [0, 1).

    A run works for `interval` seconds, stands still for `save`, and writes for `write` seconds more beside the steps:
    until then the checkpoint before is the newest. Failures come at random, on average every `between` seconds, also
    while it saves and while it comes back, which takes `restart` seconds (Daly, Future Generation Computer Systems 22,
    2006, with `write` as part of what a failure costs).
    """
    if math.isinf(between):
        return interval / (interval + save)
    try:
        return interval / between * math.exp(-(restart + write) / between) / math.expm1((interval + save) / between)
    except OverflowError:  # an interval of hundreds of failures
        return 0.0


def best_interval(save: float, between: float) -> float:
    """Return the seconds of work between two saves at which `goodput` is largest.

    It is where the interval is `between` (1 - exp(-(interval + save) / between)): about sqrt(2 save between) - save as
    long as saves are short. Infinite where there are no failures, 0 where saving costs nothing.
    """
    if math.isinf(between) or not save:
        return math.inf if save else 0.0
    low, high = 0.0, between
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if middle < -between * math.expm1(-(middle + save) / between) else (low, middle)
    return low


def failures_at_most(mean: float, certainty: float) -> int:
    """Return how many failures there are at most with this certainty, where `mean` are expected (Poisson)."""
    probability, total, count = math.exp(-min(mean, 700.0)), 0.0, 0
    if mean > 700:  # beyond what exp can say; the normal distribution is close by then
        return math.ceil(mean + 3.1 * math.sqrt(mean))
    while (total := total + probability) < certainty and count < 10 * mean + 100:
        count += 1
        probability *= mean / count
    return count
