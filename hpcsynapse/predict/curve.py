"""The points that a prediction starts from: what was measured with growing numbers of ranks, all else being equal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict.cost import QUEUE, SERVERS
from hpcsynapse.predict.samples import RunSamples

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One measured point: the mean `time` of a step (s, or relative), and samples of its runs.

    `error` is the relative standard error of the time, with `freedom` degrees of freedom (0: the error is known), and
    `repeats` the runs that it is a mean of. `batch` is that of a rank, or relative where it is not known.
    """

    ranks: int
    nodes: int
    batch: float
    time: float
    error: float
    freedom: float = 0.0
    repeats: int = 1
    samples: tuple[RunSamples, ...] = ()


@dataclass(frozen=True, slots=True)
class Congestion:
    """From so many ranks on an exchange takes (ranks / since) ** power times as long as it would otherwise."""

    since: int
    power: float


@dataclass(frozen=True, slots=True)
class Network:
    """What a network between nodes costs that was not measured: seconds a round, and seconds for a whole model."""

    alpha: float
    beta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points that may be compared, by ranks, and what holds for all of them.

    `base_time` is that of the baseline, `base_throughput` (samples/s) and `base_epoch_s` its other figures where they
    are known, `epoch_samples` the samples of an epoch; `seconds` tells whether times are seconds or relative. Where
    nodes are not known, every rank is taken to have its own. `collective` is what exchanges gradients, `alternatives`
    what may do so instead, `servers` how many parameter servers there are (None: not known), `congestion` what slows
    the exchange down, `full_node` how many ranks fill a node (None: the most that one had), `network` what is given
    of the network where all points share one node, `settings` are those that tell this curve from others.
    """

    strategy: str
    engine: str
    model: str
    data: str
    scaling: str
    baseline_strategy: str
    baseline_ranks: int
    base_time: float
    base_throughput: float | None
    base_epoch_s: float | None
    epoch_samples: float | None
    seconds: bool
    batches_known: bool
    nodes_known: bool
    observations: tuple[Observation, ...]
    collective: str
    alternatives: tuple[str, ...] = ()
    servers: int | None = 1
    congestion: Congestion | None = None
    full_node: int | None = None
    network: Network | None = None
    settings: str = ""

    @property
    def title(self) -> str:
        """What was measured, for people."""
        parts = (self.strategy, self.engine, self.model, self.data, self.settings)
        return " / ".join(part for part in parts if part) or "table"

    @property
    def by_node(self) -> bool:
        """Whether nodes, not ranks, take part in the exchange."""
        return without_options(self.strategy) == "mixed"

    @property
    def asynchronous(self) -> bool:
        """Whether ranks go ahead without waiting for one another."""
        return self.collective == QUEUE

    @property
    def ranks_per_node(self) -> int:
        """How many ranks fill a node: the most that one had, unless more was said."""
        return self.full_node or max(math.ceil(point.ranks / point.nodes) for point in self.observations)

    @property
    def one_node(self) -> bool:
        """Whether all points were measured on one node, so that no network between nodes was seen."""
        return self.nodes_known and all(point.nodes == 1 for point in self.observations)

    @property
    def told_apart(self) -> bool:
        """Whether records say what is computation and what communication."""
        together = [point for point in self.observations if point.ranks > 1]
        return bool(together) and all(
            point.samples and all(one.phases_known for one in point.samples) for point in together
        )

    @property
    def phases_missing(self) -> bool:
        """Whether runs were recorded without phases, so that differences between ranks cannot be seen."""
        return any(point.samples for point in self.observations if point.ranks > 1) and not self.told_apart

    def batches(self, ranks: Floats) -> Floats:
        """Return the batch of a rank (or its relative size) with so many ranks."""
        first = self.observations[0]
        return np.full_like(ranks, first.batch) if self.scaling == "weak" else first.batch * first.ranks / ranks

    def members(self, ranks: Floats, nodes: Floats) -> Floats:
        """Return how many take part in the exchange: ranks, or nodes."""
        return nodes if self.by_node else ranks

    def links(self, nodes: Floats) -> npt.NDArray[np.int64]:
        """Return over which links an exchange goes: 0 within one node, 1 between nodes, or where nothing is known."""
        return ((nodes > 1) | (not self.nodes_known)).astype(np.int64)

    def crowding(self, ranks: Floats, nodes: Floats) -> Floats:
        """Return how many times as long an exchange takes for congestion between nodes."""
        if self.congestion is None:
            return np.ones_like(ranks)
        more = np.maximum(1.0, ranks / self.congestion.since) ** self.congestion.power
        return np.where(self.links(nodes) == 1, more, 1.0)

    def exchanges(self, point: Observation) -> bool:
        """Tell whether a point exchanged anything: a single rank does so with parameter servers only."""
        return point.ranks > 1 or self.collective in (SERVERS, QUEUE)


def without_options(strategy: str) -> str:
    """Return a strategy's name without its options: `allreduce` of `allreduce+fp16`."""
    return strategy.partition("+")[0]
