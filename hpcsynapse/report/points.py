"""The rows of a scaling report: their columns, and what one run contributes to them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hpcsynapse.report.intervals import Estimate, of_repeats, of_steps
from hpcsynapse.report.loading import LoadedRun
from hpcsynapse.report.warmup import limit

FEW_STEPS = 30
UNSTABLE = 0.10


def column(meaning: str) -> Any:
    """Declare a field that is a column of a table, with what it means."""
    return dataclasses.field(metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """One row of a scaling report; the fields, in this order, are its columns. None: not known."""

    strategy: str = column("how the ranks worked together")
    engine: str = column("what moved the data")
    model: str = column("model, or the program of a user's own command")
    data: str = column("data set")
    nodes: int | None = column("nodes")
    ranks: int = column("ranks that trained")
    baseline_strategy: str = column("strategy of the point that speedup and efficiency refer to")
    baseline_ranks: int = column("ranks of the point that speedup and efficiency refer to")
    scaling: str = column("strong: equal global batch; weak: equal batch per rank")
    batch_per_rank: float | None = column("samples of a rank in a step, median")
    global_batch: float | None = column("samples of all ranks in a step, median")
    repeats: int = column("runs combined in this row, by geometric mean")
    steps: int | None = column("measured steps of all repeats, without warm-up")
    warmup_steps: int | None = column("warm-up of all repeats that is not used: flagged when recorded, or detected")
    step_time_s: float | None = column("median over steps of the slowest rank's time; asynchronous: of one worker")
    step_time_s_low: float | None = column("lower end of its 95 % interval")
    step_time_s_high: float | None = column("upper end of its 95 % interval")
    epoch_time_s: float | None = column("full epoch without validation and checkpoints")
    throughput: float | None = column("samples per second of all ranks")
    throughput_low: float | None = column("lower end of its 95 % interval")
    throughput_high: float | None = column("upper end of its 95 % interval")
    speedup: float = column("strong: time of the baseline / time; weak: throughput / throughput of the baseline")
    speedup_low: float | None = column("lower end of its 95 % interval")
    speedup_high: float | None = column("upper end of its 95 % interval")
    efficiency: float = column("speedup / (ranks / baseline_ranks), a fraction")
    efficiency_low: float | None = column("lower end of its 95 % interval")
    efficiency_high: float | None = column("upper end of its 95 % interval")
    start_up_s: float | None = column(
        "from the start of rank 0 to the first step: imports, meeting the others, reading data"
    )
    accuracy: float | None = column("accuracy on the test data, a fraction")
    flags: str = column("remarks, separated by blanks")


COLUMNS: dict[str, str] = {item.name: item.metadata["meaning"] for item in dataclasses.fields(ScalingPoint)}
FLAGS = {
    "one-repeat": "intervals hold for this run only: between runs there is more variation than within one",
    "few-steps": f"fewer than {FEW_STEPS} measured steps",
    "unstable": "standard deviation of step times, or of repeats, of 10 % of the mean or more",
    "only-warm-up": "all steps were flagged as warm-up and are used nevertheless",
    "still-warming": "half of a run's steps were cut as warm-up, the most that is: it may not have settled",
    "left-out=N": "N steps were not recorded by every rank in the same start and are not used",
    "epoch-computed": "no full epoch was recorded: steps of an epoch x step time",
}


@dataclass(frozen=True)
class Measured:
    """One run reduced to figures; times in seconds."""

    run: LoadedRun

    @cached_property
    def keep(self) -> Any:
        """Mask of the steps that are used."""
        cold = ~self.run.warmup
        return cold if cold.any() else np.ones(len(cold), np.bool_)

    @cached_property
    def series(self) -> Any:
        """What is measured again and again: step times, or rates of an asynchronous run."""
        return self.run.rates if self.run.about.asynchronous else self.run.slowest[self.keep]

    @cached_property
    def step_time(self) -> float:
        """Median over steps of the slowest rank; asynchronous: median of the workers' medians."""
        return float(np.median(self.series)) if self.run.worker_step_time is None else self.run.worker_step_time

    @cached_property
    def global_batch(self) -> float:
        """Samples of all ranks in a step."""
        if self.run.about.asynchronous:
            return self.run.worker_samples
        return float(np.median(self.run.samples[self.keep]))

    @cached_property
    def throughput(self) -> float:
        """Samples per second of all ranks."""
        if self.run.about.asynchronous:
            return float(self.run.rates.mean())
        return self.global_batch / self.step_time

    @property
    def epoch_is_measured(self) -> bool:
        """Whether a full epoch was recorded."""
        return len(self.run.epoch_times) > 0

    @cached_property
    def epoch_time(self) -> float | None:
        """Median over full epochs, else steps of an epoch x step time, else None."""
        if self.epoch_is_measured:
            return float(np.median(self.run.epoch_times))
        return self.run.steps_per_epoch * self.step_time if self.run.steps_per_epoch else None

    @property
    def steps(self) -> int:
        """Measured steps (asynchronous: of a worker)."""
        return self.run.worker_steps if self.run.about.asynchronous else len(self.series)

    @property
    def warmup_steps(self) -> int:
        """Steps that are left out as warm-up (asynchronous: of a worker)."""
        return self.run.worker_warmup if self.run.about.asynchronous else int((~self.keep).sum())

    @cached_property
    def within(self) -> Estimate:
        """Relative variation within this run, as batch means see it."""
        return of_steps(1.0, self.series)

    def flags(self) -> list[str]:
        """Remarks on this run alone."""
        found = ["few-steps"] if self.steps < FEW_STEPS else []
        if np.std(self.series) >= UNSTABLE * np.mean(self.series):
            found.append("unstable")
        if self.run.warmup.any() and self.run.warmup.all():
            found.append("only-warm-up")
        if self.run.detected and self.run.detected >= limit(self.run.detected + self.steps):
            found.append("still-warming")
        if self.run.left_out:
            found.append(f"left-out={self.run.left_out}")
        if self.epoch_time is not None and not self.epoch_is_measured:
            found.append("epoch-computed")
        return found


@dataclass(frozen=True)
class Point:
    """The repeats of one point: the same program on the same resources with the same batch."""

    repeats: tuple[Measured, ...]

    @property
    def first(self) -> Measured:
        """Any of the repeats, for what they share."""
        return self.repeats[0]

    @property
    def ranks(self) -> int:
        """Ranks that trained."""
        return self.first.run.about.ranks

    @property
    def nodes(self) -> int:
        """Nodes."""
        return self.first.run.about.nodes

    @property
    def names(self) -> list[str]:
        """Names of the runs."""
        return [measured.run.about.name for measured in self.repeats]

    @property
    def global_batch(self) -> float:
        """Samples of all ranks in a step."""
        return self.first.global_batch

    @property
    def batch_per_rank(self) -> float:
        """Samples of a rank in a step."""
        return self.first.global_batch / self.ranks

    @property
    def asynchronous(self) -> bool:
        """Whether ranks go ahead without waiting for one another."""
        return self.first.run.about.asynchronous

    @property
    def epochs_measured(self) -> bool:
        """Whether every repeat recorded a full epoch."""
        return all(measured.epoch_is_measured for measured in self.repeats)

    def estimate(self, quantity: str) -> Estimate:
        """Return `step_time`, `epoch_time` or `throughput` over the repeats, with what is known of its variance."""
        estimate = of_repeats([getattr(measured, quantity) for measured in self.repeats])
        if len(self.repeats) > 1:
            return estimate
        return Estimate(estimate.value, self.first.within.variance, self.first.within.freedom)

    def average(self, quantity: str) -> float | None:
        """Return the geometric mean of a quantity over the repeats, or None where one does not have it."""
        values = [getattr(measured, quantity) for measured in self.repeats]
        return None if None in values else of_repeats(values).value

    def mean_of(self, fact: str) -> float | None:
        """Return the mean of `start_up_s` or `accuracy` over the repeats that know it."""
        values = [getattr(one.run if fact == "start_up_s" else one.run.about, fact) for one in self.repeats]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    def flags(self) -> str:
        """Remarks on this point."""
        found = [] if len(self.repeats) > 1 else ["one-repeat"]
        for measured in self.repeats:
            found += measured.flags()
        times = [measured.step_time for measured in self.repeats]
        if len(times) > 1 and np.std(times, ddof=1) >= UNSTABLE * np.mean(times):
            found.append("unstable")
        return " ".join(dict.fromkeys(found))
