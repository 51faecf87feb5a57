"""One run reduced to figures: its typical step, its rate, and what keeps them from telling more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hpcsynapse.report import shape
from hpcsynapse.report.intervals import BLOCKS, Estimate, of_rate, of_steps
from hpcsynapse.report.loaded import LoadedRun
from hpcsynapse.report.warmup import limit
from hpcsynapse.timing import PHASES

FEW_STEPS = 30
UNSTABLE = 0.10
BETWEEN = 0.05  # of the time


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
    def period(self) -> Any:
        """Times from step to step, without marked pauses; of an asynchronous run slices of equal length."""
        if self.run.about.asynchronous:
            return np.ones(len(self.run.rates))
        return self.run.period[self.keep] if len(self.run.period) else self.series

    @cached_property
    def work(self) -> Any:
        """Samples of all ranks in every period, or the steps themselves where a program records no samples."""
        if self.run.about.asynchronous:
            return self.run.rates
        samples = self.run.samples[self.keep]
        return samples if samples.min() > 0 else np.ones(len(samples))

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
    def rate(self) -> Estimate:
        """Samples (steps, where none are recorded) per second of all ranks, and its variance within this run."""
        return of_rate(self.work, self.period)

    @property
    def throughput(self) -> float | None:
        """Samples per second of all ranks, without pauses; None where no samples are recorded."""
        return self.rate.value if self.global_batch else None

    @property
    def run_throughput(self) -> float | None:
        """Samples per second from the first step to the end of the run, with warm-up, pauses and restarts."""
        return self.run.counted / self.run.whole_s if self.run.counted and self.run.whole_s else None

    @property
    def pause_s(self) -> float:
        """Time of the run that its training stood still for validation, checkpoints and the like."""
        return float(self.run.pauses.sum())

    @property
    def epoch_is_measured(self) -> bool:
        """Whether a full epoch was recorded."""
        return len(self.run.epoch_times) > 0

    @cached_property
    def epoch_time(self) -> float | None:
        """Mean over full epochs, else steps of an epoch x mean period, else None."""
        if self.epoch_is_measured:
            return float(np.mean(self.run.epoch_times))
        if self.run.about.asynchronous or not self.run.steps_per_epoch:
            return None
        return self.run.steps_per_epoch * float(np.mean(self.period))

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
        """The typical step, with its relative variation within this run."""
        return of_steps(self.step_time, self.series)

    @property
    def between_steps(self) -> float:
        """Fraction of the measured time that passed between recorded steps."""
        if self.run.about.asynchronous:
            inside, passed = self.run.worker_spent[-2], self.run.worker_spent[-1]
        else:
            inside, passed = self.run.total[self.keep].sum(), self.period.sum()
        return max(0.0, 1 - float(inside / passed)) if passed > 0 else 0.0

    def flags(self, alone: bool = True) -> list[str]:
        """Remarks on this run; `alone` means that its intervals are from its own steps."""
        found = ["few-steps"] if self.steps < FEW_STEPS else []
        if np.std(self.series) >= UNSTABLE * np.mean(self.series):
            found.append("unstable")
        found += self._shape(alone)
        if self.run.starts > 1:
            found.append("several-starts")
        if self.run.warmup.any() and self.run.warmup.all():
            found.append("only-warm-up")
        if self.run.detected and self.run.detected >= limit(self.run.detected + self.steps):
            found.append("still-warming")
        if self.run.left_out:
            found.append(f"left-out={self.run.left_out}")
        if self.epoch_time is not None and not self.epoch_is_measured:
            found.append("epoch-computed")
        return found

    def _shape(self, alone: bool) -> list[str]:
        """Return what the shape of the series and the records themselves keep from being told."""
        asynchronous, found = self.run.about.asynchronous, []
        more = self.run.worker_excess if asynchronous else shape.slow_steps(self.period)
        if more is not None and more >= shape.SLOW_STEPS:
            found.append(f"slow-steps={more:.0%}")
        if self.between_steps >= BETWEEN:
            found.append(f"between-steps={self.between_steps:.0%}")
        time = self.period / np.maximum(self.work, 1e-9)  # of a sample
        if alone and shape.correlated(shape.memory(time), len(time) // BLOCKS):
            found.append("correlated")
        if shape.trend(time):
            found.append("trend")
        if not self.has_phases:
            found.append("no-phases")
        return found

    @property
    def has_phases(self) -> bool:
        """Whether steps tell more of themselves than how long they waited for data."""
        if self.run.about.asynchronous:
            return bool(np.nan_to_num(self.run.worker_spent[1 : len(PHASES)]).any())
        return bool(np.nan_to_num(self.run.phases[self.keep, 1:]).any())
