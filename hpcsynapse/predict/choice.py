"""Which exchange the points show, where more than one is possible.

Libraries choose rings or trees by themselves, networks congest, and a table does not say how many parameter servers
there were. Each possibility is fitted, every point is predicted from the others by it, and it counts by how small the
errors of these predictions are: (mean square error) ** (-(spare + 1) / 2), nearly a likelihood whose scale is not
known, with the points that fitting the coefficients leaves to spare. The best one is the estimate; intervals take draws
from all in proportion, so that they cover the choice. Where the points cannot tell, the exchange that belongs to the
strategy is the estimate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hpcsynapse.predict.cost import COLLECTIVES
from hpcsynapse.predict.curve import Congestion, Curve, Observation
from hpcsynapse.predict.exchange import places
from hpcsynapse.predict.fitting import exchange_error, left_out_exchange

OTHER, CONGESTED = 0.5, 0.1  # how plausible another collective and a congestion are before the points have a say
POWERS = (0.5, 1.0)
_BEFORE = 2  # numbers of ranks without congestion that its cost is known from
_NEGLIGIBLE = 0.01
_KNOWN = 0.002  # a left-out error below this is as good as none


@dataclass(frozen=True, slots=True)
class Candidate:
    """A curve with one of its possible exchanges.

    `error` is the root of the mean square of the errors of left-out points, of communication where it was measured,
    else of step times; None where the points do not tell exchanges apart. `share` is its share in intervals.
    """

    curve: Curve
    error: float | None
    share: float


def candidates(curve: Curve) -> list[Candidate]:
    """Return the exchanges that the points allow, the most plausible first; shares add up to 1."""
    found = list(_possible(curve))
    errors = np.array([[_left_out(one, point) for point in curve.observations] for one, _ in found], float)
    common = np.isfinite(errors).all(axis=0)
    spare = _spare(curve, int(np.count_nonzero(common)))
    told = len(found) > 1 and spare > 0
    if not told:
        kept = [index for index, (one, _) in enumerate(found) if one.congestion is None]
        found, errors = [found[index] for index in kept], errors[kept]
    weights = np.log([prior for _, prior in found])
    squares = np.mean(errors[:, common] ** 2, axis=1) if told else np.full(len(found), np.nan)
    if told:
        weights = weights - (spare + 1) / 2 * np.log(_KNOWN**2 + exchange_error(curve) ** 2 + squares)
    shares = np.exp(weights - weights.max())
    shares = np.where(shares < _NEGLIGIBLE, 0.0, shares) / shares.sum()
    chosen = [
        Candidate(one, math.sqrt(square) if told else None, float(share))
        for (one, _), square, share in zip(found, squares, shares, strict=True)
        if share
    ]
    return sorted(chosen, key=lambda one: -one.share)


def _spare(curve: Curve, points: int) -> int:
    """Return how many of so many left-out errors say something of their own: not those that latency and bandwidth take,
    nor one for the computation where it was not measured."""
    known = curve.told_apart or not all(map(curve.exchanges, curve.observations))
    return points - 2 - (not known)


def _left_out(curve: Curve, point: Observation) -> float:
    error = left_out_exchange(curve, point)
    return math.nan if error is None else error


def _possible(curve: Curve) -> Iterator[tuple[Curve, float]]:
    """Yield the curve with every exchange that is possible, and how plausible that is; its own first."""
    if curve.servers is None:
        yield from ((replace(curve, servers=count), 1.0) for count in _servers(curve))
        return
    for kind, prior in ((curve.collective, 1.0), *((kind, OTHER) for kind in curve.alternatives)):
        own = replace(curve, collective=kind)
        yield own, prior
        if kind in COLLECTIVES:
            yield from ((replace(own, congestion=one), prior * CONGESTED) for one in _congestions(curve))


def _congestions(curve: Curve) -> Iterator[Congestion]:
    """Yield congestions that begin within the measured numbers of ranks."""
    exchanging = [point for point in curve.observations if curve.exchanges(point)]
    between = sorted({point.ranks for point in exchanging if curve.links(places([point])[1])[0] == 1})
    for since in between[_BEFORE - 1 : -1]:
        yield from (Congestion(since, power) for power in POWERS)


def _servers(curve: Curve) -> list[int]:
    """Return numbers of servers to think of: as many as ranks ask for, and fewer ones that become the limit."""
    most = max(point.ranks for point in curve.observations)
    limits = [1 << power for power in range(int(math.log2(most)) + 3)]
    return [10**9, *reversed(limits)]
