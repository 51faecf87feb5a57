"""The points that a prediction starts from: what was measured with growing numbers of ranks, all else being equal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpcsynapse.errors import SpecError
from hpcsynapse.predict.cost import QUEUE, SERVERS
from hpcsynapse.predict.samples import RunSamples, read_samples
from hpcsynapse.report.compared import Compared
from hpcsynapse.report.intervals import NORMAL, Estimate
from hpcsynapse.report.points import Point, ScalingPoint
from hpcsynapse.report.scaling import SINGLE
from hpcsynapse.runs.directory import RunDirectory

# What exchanges gradients in a strategy, by its name without options; gloo's reduction and broadcast are trees.
COLLECTIVE = {
    "allreduce": "ring",
    "allreduce-broadcast": "ring",
    "central": "binomial",
    "ps-sync": SERVERS,
    "ps-async": QUEUE,
    "mixed": QUEUE,
}
NOT_PREDICTED = {"local-sgd": "its steps differ from one another", "admm": "it has two ranks"}
Source = RunDirectory | Path
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
        return _plain(self.strategy) == "mixed"

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


def of_report(compared: Iterable[Compared], sources: Mapping[int, Source], collective: str | None) -> list[Curve]:
    """Return the curves of runs that were reported; `sources` says where each run lies, by its id().

    Raises SpecError naming what is missing where there is no curve, or one cannot be predicted.
    """
    curves = []
    for one in compared:
        about = one.points[0].first.run.about
        if about.strategy == SINGLE:
            continue
        if why := NOT_PREDICTED.get(_plain(about.strategy)):
            raise SpecError(f"strategy {about.strategy} cannot be predicted: {why}; leave its runs out")
        points = [*one.points]
        if one.baseline.ranks < min(point.ranks for point in points):
            points.insert(0, one.baseline)
        kind, others = _collective(about.strategy, collective)
        observations = [_observation(point, sources, asynchronous=kind == QUEUE) for point in points]
        base = one.baseline
        curves.append(_checked(Curve(
            strategy=about.strategy, engine=about.engine, model=about.model, data=about.data, scaling=one.kind,
            baseline_strategy=base.first.run.about.strategy, baseline_ranks=base.ranks,
            base_time=_time(base).value, base_throughput=base.average("throughput"),
            base_epoch_s=None, epoch_samples=_epoch_samples(one.points[0]), seconds=True, batches_known=True,
            nodes_known=True,
            observations=tuple(observations), collective=kind, alternatives=others,
            servers=_servers(sources[id(one.points[0].first.run)]) if kind in (SERVERS, QUEUE) else 1,
            settings=one.settings,
        )))  # fmt: skip  # a long call
    if not curves:
        raise SpecError("only runs of strategy single are there, which exchange nothing; add runs with several ranks")
    return curves


def of_table(rows: Iterable[ScalingPoint], collective: str | None, scaling: str = "auto") -> list[Curve]:
    """Return the curves of a table's report, or of published figures; raises SpecError where there are too few points.

    Times are relative: a table does not say what its figures consist of. A table that says one batch for all numbers of
    ranks shows weak scaling, even if it gives times of a whole training, unless `scaling` says otherwise.
    """
    groups: dict[tuple[str, ...], list[ScalingPoint]] = {}
    for row in rows:
        groups.setdefault((row.strategy, row.engine, row.model, row.data, str(row.batch_per_rank)), []).append(row)
    return [_of_rows(group, collective, scaling) for group in groups.values()]


def _of_rows(rows: list[ScalingPoint], collective: str | None, scaling: str) -> Curve:
    first = rows[0]
    base = next(row for row in rows if row.ranks == row.baseline_ranks)
    kind = "weak" if scaling == "auto" and first.batch_per_rank is not None else first.scaling
    weak = kind == "weak"
    exchange, others = _collective(first.strategy, collective)
    observations = [
        Observation(
            ranks=row.ranks,
            nodes=row.nodes or row.ranks,
            batch=1.0 if weak else 1 / row.ranks,
            time=1 / (row.efficiency if weak else row.speedup),
            error=0.0
            if row.speedup_low is None or row.speedup_high is None
            else math.log(row.speedup_high / row.speedup_low) / 2 / NORMAL,
        )
        for row in sorted(rows, key=lambda row: row.ranks)
    ]
    return _checked(Curve(
        strategy=first.strategy, engine=first.engine, model=first.model, data=first.data, scaling=kind,
        baseline_strategy=base.strategy, baseline_ranks=base.ranks, base_time=1.0, base_throughput=base.throughput,
        base_epoch_s=base.epoch_time_s, epoch_samples=None, seconds=False, batches_known=False,
        nodes_known=all(row.nodes for row in rows),
        observations=tuple(observations), collective=exchange, alternatives=others,
        servers=None if exchange == SERVERS else 1,
    ))  # fmt: skip  # a signature


def _checked(curve: Curve) -> Curve:
    counts = {point.ranks for point in curve.observations}
    if len(counts) < 2:
        raise SpecError(
            f"{curve.title}: measured with {counts.pop()} ranks only; a prediction needs two numbers of ranks or more, "
            "better four: run it with 1, 2, 4, ... nodes"
        )
    return curve


def _plain(strategy: str) -> str:
    """Return a strategy's name without its options: `allreduce` of `allreduce+fp16`."""
    return strategy.partition("+")[0]


def _collective(strategy: str, asked: str | None) -> tuple[str, tuple[str, ...]]:
    """Return what exchanges gradients, and what may do so instead: libraries choose rings or trees by themselves."""
    own = COLLECTIVE.get(_plain(strategy), "ring")
    if asked is None:
        return own, ("tree",) if own == "ring" else ()
    if asked != own and own in (SERVERS, QUEUE):
        raise SpecError(f"--collective {asked}: strategy {strategy} goes through parameter servers")
    return asked, ()


def _observation(point: Point, sources: Mapping[int, Source], asynchronous: bool) -> Observation:
    estimate = _time(point)
    samples = [read_samples(sources[id(one.run)], asynchronous) for one in point.repeats]
    return Observation(
        ranks=point.ranks,
        nodes=point.nodes,
        batch=point.batch_per_rank,
        time=estimate.value,
        error=math.sqrt(estimate.variance) if estimate.freedom else 0.0,
        freedom=estimate.freedom,
        repeats=len(point.repeats),
        samples=tuple(one for one in samples if one is not None),
    )


def _time(point: Point) -> Estimate:
    """Return the mean time of a step, as the rate tells it; asynchronous: in which each worker makes one on average."""
    rate, first = point.estimate("throughput"), point.first
    each = point.global_batch if point.asynchronous else float(np.median(first.work))  # 1 where no samples are recorded
    return Estimate(each / rate.value, rate.variance, rate.freedom)


def _epoch_samples(point: Point) -> float | None:
    run = point.first.run
    steps = run.about.steps_per_epoch or run.steps_per_epoch
    return steps * point.global_batch if steps else None


def _servers(source: Source) -> int:
    if not isinstance(source, RunDirectory):
        return 1
    options = source.load_spec().ps
    if options.needed is not None:
        raise SpecError(
            f"{source.name}: ps.needed = {options.needed}: servers that do not wait for all workers "
            "cannot be predicted; leave such runs out"
        )
    return options.servers
