"""What a report needs of one run, whatever its ranks did to one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.describe import RunDescription
from hpcsynapse.report.sums import Floats
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.timing import CAUSES, PHASES


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun:
    """What a report needs of one run; arrays hold one entry per step that every rank recorded.

    `period` is the time from the step before to this one, without marked pauses (s, mean over ranks, periods.py),
    `slowest` the largest `total` of all ranks (s), `total` their mean, `latest` the largest period less what is spent
    in communication (s), `samples` the sum over ranks, `phases` the mean over ranks (s, shape (steps, 5), order of
    PHASES), `loss` the mean over ranks, `start` the earliest start (Unix time), `warmup` whether any rank flagged the
    step or it is one of the `detected` first unflagged ones, which were slower than the rest. `left_out` counts steps
    that some ranks did not record, or not in the same start of the job, or without a finite duration.

    Of the whole run: `span_s` from the first step's start to the last one's end, of the newest start of the job;
    `whole_s` from the first step's start to the end of the last step or pause over all `starts`, by each rank's own
    clock (mean; asynchronous: of the rank that took longest, and `idle_s` how long a rank had ended before it);
    `pauses` (s, in the order of CAUSES, restarts and what they repeated among them); `counted` samples of all ranks.
    `begun` is when rank 0 opened its records (Unix time).

    Asynchronous strategies have empty step arrays. Theirs are `rates` (samples/s of all ranks in equal slices of the
    common measured window, without pauses; `start` and `loss` are those of the slices), `worker_step_time` (s),
    `worker_steps` and `worker_warmup` (a worker's measured and flagged steps, mean), `worker_times` (s, equally many
    quantiles of every worker's step time), `worker_excess` (by which fraction a mean period is above the median one,
    mean over workers), and sums over all measured steps of all workers: `worker_spent` (s: phases in the order of
    PHASES, then totals, then periods) on `worker_counted` samples.
    `source` is where all of it was read from.
    """

    source: RunDirectory | Path
    about: RunDescription
    step: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.int64]
    slowest: Floats
    total: Floats
    latest: Floats
    samples: Floats
    phases: Floats
    loss: Floats
    start: Floats
    warmup: npt.NDArray[np.bool_]
    left_out: int
    epoch_times: Floats
    steps_per_epoch: int | None
    start_up_s: float | None
    span_s: float
    rates: Floats
    period: Floats = field(default_factory=lambda: np.empty(0))
    whole_s: float = 0.0
    pauses: Floats = field(default_factory=lambda: np.zeros(len(CAUSES)))
    counted: float = 0.0
    idle_s: float = 0.0
    starts: int = 1
    begun: float | None = None
    worker_step_time: float | None = None
    detected: int = 0
    worker_steps: int = 0
    worker_warmup: int = 0
    worker_samples: float = 0.0
    worker_times: Floats = field(default_factory=lambda: np.empty(0))
    worker_spent: Floats = field(default_factory=lambda: np.zeros(len(PHASES) + 2))
    worker_counted: float = 0.0
    worker_excess: float = 0.0
