"""Learning curves: how many samples, and how much time, a run took to reach a target.

A target is a metric and the value that it has to reach: an accuracy, or any other that validations report. Samples are
those that all ranks trained on, up to the first validation that reached it; there is nothing between two validations,
so figures are as fine as `train.validate_every`. What training time is: see learning_curve.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.report.learning_curve import CurvePoint, curve, with_metric
from hpcsynapse.report.loading import LoadedRun
from hpcsynapse.report.reduced import Measured
from hpcsynapse.report.varied import chosen, differing, told
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.table import KEY, SECONDS, column, columns

ACCURACY = "accuracy"
FRACTIONS = (ACCURACY, "top5_accuracy", "precision", "recall", "f1")
# Settings that say nothing about how fast a run learns.
_NEUTRAL = {
    *("train.epochs", "train.steps", "train.checkpoint_every", "train.checkpoint_seconds", "train.checkpoint_auto"),
    *("train.checkpoint_async", "train.validate_every"),
}
Repeat = tuple[Measured, list[CurvePoint]]


@dataclass(frozen=True, slots=True)
class Target:
    """A metric, and the value that it has to reach: from above where smaller is better."""

    metric: str
    value: float
    smaller: bool = False

    @classmethod
    def parse(cls, text: str) -> Target:
        """Return the target of a text: a fraction (of accuracy), NAME>=NUMBER or NAME<=NUMBER; raises SpecError."""
        sign = next((sign for sign in (">=", "<=") if sign in text), "")
        metric, _, number = text.rpartition(sign) if sign else (ACCURACY, "", text)
        metric = metric.strip()
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not metric or not math.isfinite(value):
            raise SpecError(f"target {text!r}: give an accuracy, such as 0.9, or 'NAME>=NUMBER' or 'NAME<=NUMBER'")
        if metric in FRACTIONS and not 0 < value <= 1:
            raise SpecError(f"target {text}: give the {metric} as a fraction, above 0 and at most 1")
        return cls(metric, value, smaller=sign == "<=")

    def reached(self, value: float) -> bool:
        """Tell whether a value of the metric is good enough."""
        return value <= self.value if self.smaller else value >= self.value

    def __str__(self) -> str:
        return f"{self.metric}{'<' if self.smaller else '>'}={self.value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvergencePoint:
    """One row of a convergence report; the fields, in this order, are its columns. None: not reached, or not known."""

    strategy: str = column("how the ranks worked together", priority=KEY)
    engine: str = column("what moved the data", priority=KEY)
    model: str = column("model", priority=KEY)
    data: str = column("data set", priority=KEY)
    nodes: int = column("nodes", priority=KEY)
    ranks: int = column("ranks that trained", priority=KEY)
    batch_per_rank: float = column("samples of a rank in a step, median", head="batch/rank", priority=8)
    settings: str = column(
        "settings of the training in which it differs from rows that are otherwise alike", priority=4
    )
    repeats: int = column("runs combined in this row", priority=4)
    goal: str = column("what was to be reached: a metric and its value", priority=8)
    target: float = column("that value", shown=False)
    reached: int = column("runs that reached it", priority=7)
    samples_to_target: float | None = column("samples of all ranks until then, median over the runs", priority=8)
    time_to_target_s: float | None = column("training time until then, median over the runs", unit=SECONDS, priority=8)
    final_value: float = column("the metric at the end, mean over the runs", head="at the end")
    throughput: float = column("samples per second of all ranks", head="samples/s", priority=6)


COLUMNS = columns(ConvergencePoint)


def convergence_report(runs: Iterable[tuple[RunDirectory, LoadedRun]], target: Target) -> list[ConvergencePoint]:
    """Return one row per strategy, engine, model, data, batch, number of ranks, and settings of the training.

    Raises RecordError for a run whose validations do not tell the metric.
    """
    alike: dict[tuple[Any, ...], list[Repeat]] = {}
    for run, loaded in runs:
        about, measured = loaded.about, Measured(loaded)
        key = (
            about.model,
            about.data,
            about.strategy,
            about.engine,
            measured.global_batch,
            about.ranks,
            about.nodes,
            about.hardware,
            about.threads,
        )
        alike.setdefault(key, []).append((measured, with_metric(run.name, curve(run, about), target.metric)))
    return [row for _, repeats in sorted(alike.items()) for row in _rows(repeats, target)]


def _rows(repeats: list[Repeat], target: Target) -> list[ConvergencePoint]:
    """Return a row for all settings in which runs differ that are otherwise alike."""
    optimizers = len({measured.run.about.optimizer for measured, _ in repeats}) > 1
    settings = [
        {**measured.run.about.settings, **({"train.optimizer": measured.run.about.optimizer} if optimizers else {})}
        for measured, _ in repeats
    ]
    names = [name for name in sorted(differing(settings)) if name not in _NEUTRAL]
    groups: dict[tuple[tuple[str, str], ...], list[Repeat]] = {}
    for own, repeat in zip(settings, repeats, strict=True):
        groups.setdefault(chosen(own, names), []).append(repeat)
    return [_row(groups[pairs], told(pairs), target) for pairs in sorted(groups)]


def _row(repeats: list[Repeat], settings: str, target: Target) -> ConvergencePoint:
    measured = repeats[0][0]
    about = measured.run.about
    firsts = [
        next((point for point in points if target.reached(point.metrics[target.metric])), None) for _, points in repeats
    ]
    batch = measured.global_batch / about.ranks
    return ConvergencePoint(
        strategy=about.strategy,
        engine=about.engine,
        model=about.model,
        data=about.data,
        nodes=about.nodes,
        ranks=about.ranks,
        batch_per_rank=int(batch) if batch == int(batch) else batch,
        settings=settings,
        repeats=len(repeats),
        goal=str(target),
        target=target.value,
        reached=sum(first is not None for first in firsts),
        samples_to_target=_median([None if first is None else first.samples for first in firsts]),
        time_to_target_s=_median([None if first is None else first.time_s for first in firsts]),
        final_value=sum(points[-1].metrics[target.metric] for _, points in repeats) / len(repeats),
        throughput=math.exp(sum(math.log(one.rate.value) for one, _ in repeats) / len(repeats)),
    )


def _median(values: list[float | None]) -> float | None:
    """Return the median, in which a run that did not reach the target took for ever; None when it is such a run's."""
    found = median(math.inf if value is None else value for value in values)
    return found if found < math.inf else None
