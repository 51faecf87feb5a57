"""What latency and bandwidth of links contribute to measured points, and the coefficients that explain them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict import cost
from hpcsynapse.predict.curve import Curve, Observation
from hpcsynapse.predict.nonnegative import solve

Floats = npt.NDArray[np.float64]
_ITERATIONS = 15
_UNKNOWN: Floats = np.zeros(1)


def places(points: Sequence[Observation]) -> tuple[Floats, Floats]:
    """Return ranks and nodes of points."""
    return np.array([point.ranks for point in points], float), np.array([point.nodes for point in points], float)


class Exchange:
    """What alpha and beta contribute to points: beta and alpha of one node and of several, as far as they were used."""

    def __init__(self, curve: Curve, points: Sequence[Observation], think: Floats = _UNKNOWN) -> None:
        self._kind, self._servers, self._think = curve.collective, curve.servers or 1, think
        ranks, nodes = places(points)
        self._members = curve.members(ranks, nodes)
        self._crowding = curve.crowding(ranks, nodes)
        takes_part = np.array([curve.exchanges(point) for point in points], bool)
        self._links = np.stack([(curve.links(nodes) == link) & takes_part for link in (0, 1)], axis=1)

    def solve(self, values: Floats, steps: Floats, others: Floats, mix: np.random.Generator | None) -> Floats:
        """Return coefficients, a row for each row of values: those of `others`, beta of both links, alpha of both.

        Errors count relative to `steps`, shape (1, points). A link that was not used is given the coefficients of the
        other one.
        """
        if self._kind == cost.QUEUE:
            columns, values = self._of_queue(values, steps, others)
        else:
            slope = cost.volume(self._kind, self._members, self._servers)[None]
            columns = (self._columns(slope, others) / steps[..., None])[0]
            values = values / steps
        found = solve(columns, values, mix)
        more = others.shape[1]
        for here, other in ((0, 1), (1, 0)):
            if not self._links[:, here].any():
                found[:, [more + here, more + 2 + here]] = found[:, [more + other, more + 2 + other]]
        return found

    def _columns(self, slope: Floats, others: Floats) -> Floats:
        """Return what each coefficient counts for, shape (rows, points, coefficients)."""
        rounds = (cost.rounds(self._kind, self._members) * self._crowding)[:, None] * self._links
        busy = ((slope * self._crowding)[:, None] * self._links.T).swapaxes(0, 1)
        parts = np.broadcast_arrays(*(part[..., None] for part in [*others.T, *busy, *rounds.T]))
        return np.concatenate(parts, axis=-1)

    def _of_queue(self, values: Floats, steps: Floats, others: Floats) -> tuple[Floats, Floats]:
        """Return columns and values at the solution: how long one waits in a queue grows faster than beta.

        Newton's method, which starts above, where the servers would be busy all the time.
        """
        more = others.shape[1]
        alone = cost.volume(self._kind, self._members, self._servers)
        start = np.min(steps / (self._members * alone + 1e-300), axis=1, keepdims=True)
        beta = np.broadcast_to(start, values.shape)
        think = np.min(values / others[:, 0], axis=1)[:, None] * others[:, 0] if more else self._think
        found = np.zeros((len(values), more + 4))
        for _ in range(_ITERATIONS):
            before = found
            busy, slope = cost.transfer(self._kind, self._members, beta, think, self._servers)
            columns, rest = self._columns(slope, others) / steps[..., None], busy - slope * beta
            found = solve(columns, (values - rest) / steps)
            if np.allclose(found, before, rtol=1e-5, atol=0):
                break
            beta = found[:, more : more + 2] @ self._links.T
            think = found[:, :more] @ others.T if more else self._think
        return columns, (values - rest) / steps
