"""The curves that a prediction starts from, made of runs that were reported or of a table's figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from hpcsynapse.errors import SpecError
from hpcsynapse.predict.cost import QUEUE, SERVERS
from hpcsynapse.predict.curve import Curve, Observation, without_options
from hpcsynapse.predict.samples import read_samples
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
NOT_PREDICTED = {
    "local-sgd": "its steps differ from one another",
    "admm": "it has two ranks",
    "pipeline": "its exchange is within backward",
    "sharded": "its exchange is within forward and backward",
}
Source = RunDirectory | Path


def of_report(compared: Iterable[Compared], sources: Mapping[int, Source], collective: str | None) -> list[Curve]:
    """Return the curves of runs that were reported; `sources` says where each run lies, by its id().

    Raises SpecError naming what is missing where there is no curve, or one cannot be predicted.
    """
    curves = []
    for one in compared:
        about = one.points[0].first.run.about
        if about.strategy == SINGLE:
            continue
        if why := NOT_PREDICTED.get(without_options(about.strategy)):
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


def _collective(strategy: str, asked: str | None) -> tuple[str, tuple[str, ...]]:
    """Return what exchanges gradients, and what may do so instead: libraries choose rings or trees by themselves."""
    own = COLLECTIVE.get(without_options(strategy), "ring")
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
