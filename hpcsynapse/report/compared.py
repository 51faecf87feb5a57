"""What may be compared, and the rows of a scaling report that this gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from hpcsynapse.report.intervals import of_unlike
from hpcsynapse.report.points import Point, ScalingPoint
from hpcsynapse.report.staleness import staleness_of
from hpcsynapse.report.varied import chosen, told


@dataclass(frozen=True, slots=True)
class Compared:
    """Points that may be compared, their baseline, and whether that shows strong or weak scaling.

    `settings` are those that tell this curve from others which are otherwise alike.
    """

    baseline: Point
    points: tuple[Point, ...]
    kind: str
    settings: str = ""


def rows_of(one: Compared, names: Sequence[str] = ()) -> list[ScalingPoint]:
    """Return a row for every point, in their order, with its settings of these names."""
    return [_row(point, one.baseline, one.kind, names) for point in one.points]


def _speedup(point: Point, baseline: Point, kind: str) -> tuple[float, tuple[float, float] | None]:
    """Return how much faster a point is than its baseline, and the 95 % interval of that.

    Both are rates of samples. A program that records none has steps of equal work where the work is said to be equal.
    """
    if point is baseline:
        return 1.0, (1.0, 1.0)
    gain = of_unlike(
        point.estimate("throughput"), len(point.repeats), baseline.estimate("throughput"), len(baseline.repeats)
    )
    if kind == "weak" and not point.global_batch:
        gain = dataclasses.replace(gain, value=gain.value * point.ranks / baseline.ranks)
    return gain.value, gain.interval()


def _row(point: Point, baseline: Point, kind: str, names: Sequence[str]) -> ScalingPoint:
    about = point.first.run.about
    speedup, ends = _speedup(point, baseline, kind)
    # For an asynchronous run the variation known within a run is that of its rate, not of a worker's step.
    step_ends = None if point.asynchronous and len(point.repeats) == 1 else point.estimate("step_time").interval()
    low, high = ends or (None, None)
    step_low, step_high = step_ends or (None, None)
    rate_low, rate_high = (point.estimate("throughput").interval() if point.global_batch else None) or (None, None)
    growth = point.ranks / baseline.ranks
    return ScalingPoint(
        strategy=about.strategy,
        engine=about.engine,
        model=about.model,
        data=about.data,
        nodes=point.nodes,
        ranks=point.ranks,
        baseline_strategy=baseline.first.run.about.strategy,
        baseline_ranks=baseline.ranks,
        scaling=kind,
        batch_per_rank=_plain(point.batch_per_rank),
        global_batch=_plain(point.global_batch),
        settings=told(chosen(about.settings, names)),
        repeats=len(point.repeats),
        steps=sum(measured.steps for measured in point.repeats),
        warmup_steps=sum(measured.warmup_steps for measured in point.repeats),
        step_time_s=point.average("step_time"),
        step_time_s_low=step_low,
        step_time_s_high=step_high,
        epoch_time_s=point.average("epoch_time"),
        train_time_h=sum(one.run.span_s for one in point.repeats) / len(point.repeats) / 3600,
        steps_per_s=None,
        throughput=point.average("throughput"),
        throughput_low=rate_low,
        throughput_high=rate_high,
        tokens_per_s=_times(point.average("throughput"), about.tokens_per_sample),
        flops_per_step=_times(point.batch_per_rank, about.flops_per_sample),
        flops_per_s=_times(point.average("throughput"), about.flops_per_sample),
        run_throughput=point.average("run_throughput"),
        pause_s=sum(one.pause_s for one in point.repeats) / len(point.repeats),
        speedup=speedup,
        speedup_low=low,
        speedup_high=high,
        efficiency=speedup / growth,
        efficiency_low=None if low is None else low / growth,
        efficiency_high=None if high is None else high / growth,
        start_up_s=point.mean_of("start_up_s"),
        peak_memory=point.mean_of("peak_memory"),
        accuracy=point.mean_of("accuracy"),
        **staleness_of(point),
        flags=point.flags(baseline),
    )


def _times(value: float | None, each: int | None) -> float | None:
    return None if value is None or each is None else value * each


def _plain(value: float) -> float:
    """Return a whole number as int, so that a batch of 64 is written as 64."""
    return int(value) if value == int(value) else value
