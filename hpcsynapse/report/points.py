"""The rows of a scaling report: their columns, and what one run contributes to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcsynapse.report.intervals import Estimate, of_repeats
from hpcsynapse.report.reduced import FEW_STEPS, UNSTABLE, Measured
from hpcsynapse.table import BYTES, FRACTION, KEY, LARGE, RATIO, SECONDS, column, columns, lower_end, upper_end


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """One row of a scaling report; the fields, in this order, are its columns. None: not known."""

    strategy: str = column("how the ranks worked together", priority=KEY)
    engine: str = column("what moved the data", priority=KEY)
    model: str = column("model, or the program of a user's own command", priority=KEY)
    data: str = column("data set", priority=KEY)
    nodes: int | None = column("nodes", priority=KEY)
    ranks: int = column("ranks that trained", priority=KEY)
    baseline_strategy: str = column(
        "strategy of the point that speedup and efficiency refer to", head="baseline", priority=3
    )
    baseline_ranks: int = column("ranks of the point that speedup and efficiency refer to", priority=3)
    scaling: str = column("strong: equal global batch; weak: equal batch per rank")
    batch_per_rank: float | None = column("samples of a rank in a step, median", head="batch/rank", priority=6)
    global_batch: float | None = column("samples of all ranks in a step, median", shown=False)
    settings: str = column(
        "what else differs between the runs of this report: section.key=value, or the words of a user's own command",
        priority=KEY,
    )
    repeats: int = column("runs combined in this row, by geometric mean", priority=4)
    steps: int | None = column("measured steps of all repeats, without warm-up", priority=2)
    warmup_steps: int | None = column(
        "warm-up of all repeats that is not used: flagged when recorded, or detected", head="warm-up steps", priority=1
    )
    step_time_s: float | None = column(
        "median over steps of the slowest rank's time; asynchronous: of one worker",
        unit=SECONDS,
        interval=True,
        priority=7,
    )
    step_time_s_low: float | None = lower_end()
    step_time_s_high: float | None = upper_end()
    epoch_time_s: float | None = column("full epoch without marked pauses, mean", unit=SECONDS, priority=4)
    train_time_h: float | None = column(
        "hours from the start of the first step to the end of the last one, mean over the runs",
        head="hours",
        priority=2,
    )
    steps_per_s: float | None = column(
        "updates of the model per second, of all workers together, where a table tells them", head="steps/s", priority=5
    )
    throughput: float | None = column(
        "samples per second of all ranks by the time that passed, marked pauses left out",
        head="samples/s",
        interval=True,
        priority=5,
    )
    throughput_low: float | None = lower_end()
    throughput_high: float | None = upper_end()
    tokens_per_s: float | None = column(
        "the same in tokens, where samples are sequences of them", head="tokens/s", priority=5, default=None
    )
    flops_per_step: float | None = column(
        "FLOPs of a rank's step: forward and backward of the model, a multiply-add as two, nothing counted twice",
        head="FLOPs/step",
        unit=LARGE,
        priority=1,
        shown=False,
        default=None,
    )
    flops_per_s: float | None = column(
        "the same per second, of all ranks", head="FLOP/s", unit=LARGE, priority=1, shown=False, default=None
    )
    run_throughput: float | None = column(
        "the same from the first step to the end of the run: with warm-up, pauses and restarts",
        head="whole run samples/s",
        priority=2,
    )
    pause_s: float | None = column(
        "validation, checkpoints, restarts and other marked pauses of a run", head="pauses", unit=SECONDS, priority=2
    )
    speedup: float = column(
        "throughput / throughput of the baseline; strong scaling: time of the baseline / time",
        unit=RATIO,
        interval=True,
        priority=KEY,
    )
    speedup_low: float | None = lower_end()
    speedup_high: float | None = upper_end()
    efficiency: float = column(
        "speedup / (ranks / baseline_ranks), a fraction", unit=FRACTION, interval=True, priority=KEY
    )
    efficiency_low: float | None = lower_end()
    efficiency_high: float | None = upper_end()
    start_up_s: float | None = column(
        "from the start of rank 0 to the first step: imports, meeting the others, reading data",
        head="start-up",
        unit=SECONDS,
        priority=1,
    )
    peak_memory: float | None = column(
        "most memory of any rank, mean over the runs: on GPUs what torch allocated there, else resident memory",
        head="memory",
        unit=BYTES,
        priority=1,
        default=None,
    )
    accuracy: float | None = column("accuracy on the test data, a fraction", unit=FRACTION, priority=4)
    staleness_mean: float | None = column(
        "asynchronous: updates by others between a worker's pull and its push, mean", head="stale", priority=3
    )
    staleness_p95: float | None = column("95 % of the gradients were at most so old", head="95 % stale", priority=2)
    dropped: float | None = column(
        "gradients that servers did not use as they were too late, a fraction", unit=FRACTION, priority=3
    )
    flags: str = column("remarks, separated by blanks", priority=8)


COLUMNS = columns(ScalingPoint)
FLAGS = {
    "one-repeat": "a single run, of the point or what it is compared with: runs differ by more than steps of one show",
    "few-repeats": "two runs, of the point or of what it is compared with: an interval from two says almost nothing",
    "few-steps": f"fewer than {FEW_STEPS} measured steps",
    "unstable": "standard deviation of step times, or of repeats, of 10 % of the mean or more",
    "slow-steps=N%": "the mean step takes N % longer than the typical one: step_time_s is not what the rate is made of",
    "between-steps=N%": "N % of the time passed between recorded steps, unmarked: waiting for data, logging",
    "correlated": "slow steps come in long stretches and the run is short for that: the interval may be too narrow",
    "trend": "steps became faster or slower over the run: its rate is not that of a longer run",
    "no-phases": "the steps record no phases: why cannot tell where time went, and no slow rank can be named",
    "several-starts": "steps of several starts of the job, or lives of a rank, are in one series",
    "only-warm-up": "all steps were flagged as warm-up and are used nevertheless",
    "still-warming": "half of a run's steps were cut as warm-up, the most that is: it may not have settled",
    "left-out=N": "N steps are not used: not every rank recorded them in one start, or one without a duration",
    "epoch-computed": "no full epoch was recorded: steps of an epoch x mean time from step to step",
}


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
        """Return `step_time` or `throughput` over the repeats, with what is known of its variance.

        Throughput is in steps per second where a program records no samples.
        """
        name = {"step_time": "within", "throughput": "rate"}[quantity]
        known: list[Estimate] = [getattr(measured, name) for measured in self.repeats]
        return known[0] if len(known) == 1 else of_repeats([one.value for one in known])

    def average(self, quantity: str) -> float | None:
        """Return the geometric mean of a quantity over the repeats, or None where one does not have it."""
        values = [getattr(measured, quantity) for measured in self.repeats]
        return None if None in values else of_repeats(values).value

    def mean_of(self, fact: str) -> float | None:
        """Return the mean of `start_up_s`, `accuracy` or `peak_memory` over the repeats that know it."""
        values = [getattr(one.run if fact == "start_up_s" else one.run.about, fact) for one in self.repeats]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    def flags(self, compared_with: Point | None = None) -> str:
        """Remarks on this point, and on how few repeats it or what it is compared with has."""
        repeats = min(len(point.repeats) for point in (self, compared_with or self))
        found = {1: ["one-repeat"], 2: ["few-repeats"]}.get(repeats, [])
        for measured in self.repeats:
            found += measured.flags(alone=len(self.repeats) == 1)
        rates = [measured.rate.value for measured in self.repeats]
        if len(rates) > 1 and np.std(rates, ddof=1) >= UNSTABLE * np.mean(rates):
            found.append("unstable")
        return " ".join(_worst(found))


def _worst(flags: Sequence[str]) -> list[str]:
    """Return every flag once; of those with a percentage the one of the run that has most."""
    found: dict[str, str] = {}
    for flag in flags:
        name, _, value = flag.partition("=")
        key = name if value.endswith("%") else flag
        if key not in found or (key == name and value and float(value[:-1]) > float(found[key].partition("=")[2][:-1])):
            found[key] = flag
    return list(found.values())
