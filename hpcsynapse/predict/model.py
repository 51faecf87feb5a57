"""The cost model of a curve: step = computation of the slowest rank + what communication is not hidden behind it.

    T(R) = c(b) s(R) + max(X / PIECES, X - h c(b)),    X = (alpha rounds(R) + transfer(R, beta)) crowding(R)

c is the computation of a rank with its batch b, s what the slowest of R ranks takes relative to it (`slowest`), alpha
and beta are the cost of the strategy's own exchange (`cost`), h the share of the computation in which communication
goes on meanwhile. Ranks on one node and ranks on several have an alpha and a beta each, as different links count.
Crowding is 1 but where the points show that the network congests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict import cost
from hpcsynapse.predict.curve import Curve
from hpcsynapse.predict.slowest import Spread

Floats = npt.NDArray[np.float64]
PIECES = 14  # in which engines that overlap send the gradients; engine ddp here takes so many buckets


@dataclass(frozen=True, kw_only=True)
class Model:
    """One fitted model, or many: arrays have a row for each; times in seconds, or relative as those of the curve.

    `constant` and `per_sample` give the computation of a rank; `alpha` and `beta` have one column for ranks on one
    node and one for several nodes. `independence` is the share of the slowest rank's excess that was seen: ranks that
    are slow in the same steps have less. `misfit` is the relative error that is left at measured points.
    """

    curve: Curve
    constant: Floats
    per_sample: Floats
    alpha: Floats
    beta: Floats
    spreads: tuple[Spread, ...] = ()
    independence: float = 1.0
    hidden: float = 0.0
    misfit: float = 0.0

    def parts(self, ranks: Floats, nodes: Floats) -> tuple[Floats, Floats]:
        """Return computation of the slowest rank and exposed communication, shape (models, numbers of ranks)."""
        kind, servers = self.curve.collective, self.curve.servers or 1
        level = self.constant[:, None] + self.per_sample[:, None] * self.curve.batches(ranks)
        compute = level * self._slowest(ranks, nodes)
        members, link = self.curve.members(ranks, nodes), self.curve.links(nodes)
        busy, _ = cost.transfer(kind, members, self.beta[:, link], compute, servers)
        whole = (self.alpha[:, link] * cost.rounds(kind, members) + busy) * self.curve.crowding(ranks, nodes)
        return compute, exposed(whole, self.hidden * level) if self.hidden else whole

    def time(self, ranks: Floats, nodes: Floats) -> Floats:
        """Return the time of a step, shape (models, numbers of ranks)."""
        compute, communicate = self.parts(ranks, nodes)
        return compute + communicate

    def _slowest(self, ranks: Floats, nodes: Floats) -> Floats:
        together = np.ceil(ranks / nodes) if self.curve.by_node else ranks
        if not self.spreads or (self.curve.asynchronous and not self.curve.by_node):
            return np.ones((1, len(ranks)))
        found = np.stack([one.slowest(together) / one.slowest(np.ones(1)) for one in self.spreads])
        found = 1 + self.independence * np.maximum(found - 1, 0)
        return np.asarray(found[np.arange(len(self.constant)) % len(found)])


def exposed(whole: Floats, window: Floats) -> Floats:
    """Return what is seen of communication that goes on for `window` seconds of backward; never less than one piece."""
    return np.maximum(whole / PIECES, whole - window)


def complete(seen: Floats, window: Floats) -> Floats:
    """Return the communication of which so much is seen: the inverse of `exposed`."""
    return np.minimum(seen * PIECES, seen + window)
