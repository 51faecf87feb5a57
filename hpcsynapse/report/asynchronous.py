"""Runs whose ranks go ahead without waiting for one another, from the records of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpcsynapse.errors import RecordError
from hpcsynapse.report.describe import RunDescription
from hpcsynapse.report.loaded import LoadedRun
from hpcsynapse.report.periods import OwnTime
from hpcsynapse.report.shape import excess
from hpcsynapse.report.sums import Floats, Records
from hpcsynapse.report.whole import Whole
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.timing import PHASES, WARMUP

RATE_BINS = 40
QUANTILES = 101


@dataclass
class _Worker:
    """The measured steps of one worker."""

    records: Records
    period: Floats
    paused: Floats | None
    warmup: int

    @property
    def span(self) -> tuple[float, float]:
        """Return when the first measured step began and the last one ended (Unix time)."""
        return float(self.records["start"][0]), float(self.records["start"][-1] + self.records["total"][-1])


@dataclass
class _Counts:
    """Sums over workers, and one value of each of them."""

    done: Floats = field(default_factory=lambda: np.zeros(RATE_BINS))
    losses: Floats = field(default_factory=lambda: np.zeros(RATE_BINS))
    seen: Floats = field(default_factory=lambda: np.zeros(RATE_BINS))
    spent: Floats = field(default_factory=lambda: np.zeros(len(PHASES) + 2))
    times: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    spread: list[Floats] = field(default_factory=list)
    excesses: list[float] = field(default_factory=list)
    steps: int = 0
    counted: float = 0.0

    def add(self, worker: _Worker, edges: Floats) -> None:
        """Add a worker; `edges` are those of the slices of the common window."""
        mine = worker.records
        self.done += _rates(worker, edges)
        self.losses += np.histogram(mine["start"], edges, weights=mine["loss"])[0]
        self.seen += np.histogram(mine["start"], edges)[0]
        totals = [mine[name].sum(dtype=np.float64) for name in (*PHASES, "total")]
        self.spent += [*totals, worker.period.sum()]
        self.times.append(float(np.median(mine["total"])))
        self.batches.append(float(np.median(mine["samples"])))
        self.spread.append(np.quantile(mine["total"], np.linspace(0, 1, QUANTILES)))
        self.excesses.append(excess(worker.period))
        self.steps += len(mine)
        self.counted += float(mine["samples"].sum(dtype=np.float64))


def load_asynchronous(
    source: RunDirectory | Path, about: RunDescription, ranks: Callable[[], Iterable[tuple[int, OwnTime]]], starts: int
) -> LoadedRun:
    """Count samples of all workers over the common measured window; `ranks` is called twice, so that none is kept.

    Raises RecordError where the measured steps of the workers do not overlap in time.
    """
    whole, warmup, samples = Whole(starts), [], 0.0
    spans = []
    for rank, own in ranks():
        whole.add(rank, own)
        samples += float(own.records["samples"].sum(dtype=np.float64))
        worker = _measured(own)
        warmup.append(worker.warmup)
        spans += [worker.span] if len(worker.records) else []
    begin, end = max(span[0] for span in spans), min(span[1] for span in spans)
    if not begin < end:
        raise RecordError(f"{about.name}: the measured steps of the workers do not overlap in time")
    edges, counts, paused, count = np.linspace(begin, end, RATE_BINS + 1), _Counts(), whole.after * 0, 0
    for _, own in ranks():
        worker = _measured(own)
        paused += own.after + (0.0 if own.paused is None else own.paused.sum(axis=0))
        count += 1
        if len(worker.records):
            counts.add(worker, edges)
    none: Any = np.empty(0)
    return LoadedRun(
        source=source, about=about, step=none, epoch=none, slowest=none, total=none, latest=none, samples=none,
        phases=np.empty((0, len(PHASES))), start=edges[:-1], warmup=none, left_out=sum(map(len, whole.unusable)),
        epoch_times=none,
        loss=np.divide(counts.losses, counts.seen, where=counts.seen > 0, out=np.full(RATE_BINS, np.nan)),
        span_s=max(last for _, last in spans) - min(first for first, _ in spans), steps_per_epoch=None,
        start_up_s=None if about.start_up_from is None else max(0.0, whole.first_step - about.start_up_from),
        whole_s=whole.longest, idle_s=whole.idle, pauses=paused / count, counted=samples, starts=whole.starts,
        begun=about.begun, rates=counts.done, worker_step_time=float(np.median(counts.times)),
        worker_steps=counts.steps // len(counts.times), worker_warmup=sum(warmup) // len(warmup),
        worker_samples=sum(counts.batches), worker_times=np.concatenate(counts.spread), worker_spent=counts.spent,
        worker_counted=counts.counted, worker_excess=float(np.mean(counts.excesses)),
    )  # fmt: skip  # a signature


def _measured(own: OwnTime) -> _Worker:
    """Return the steps of a worker without its warm-up, or all of them where there are no others."""
    cold = (own.records["flags"] & WARMUP) == 0
    if not cold.any() or cold.all():
        return _Worker(own.records, own.period, own.paused, 0)
    return _Worker(
        own.records[cold], own.period[cold], None if own.paused is None else own.paused[cold], int((~cold).sum())
    )


def _rates(worker: _Worker, edges: Floats) -> Floats:
    """Return samples per second of one worker in equal parts of its training time within the common window.

    Its training time is its clock with its own pauses cut out, which the others need not have made.
    """
    mine = worker.records
    knots = np.stack((mine["start"], mine["start"] + mine["total"]), axis=1).ravel()
    knots = np.maximum.accumulate(knots)
    counts = np.cumsum(mine["samples"], dtype=np.float64)
    levels = np.stack((counts - mine["samples"], counts), axis=1).ravel()
    times = knots
    if worker.paused is not None:
        times = np.maximum.accumulate(knots - np.repeat(np.cumsum(worker.paused.sum(axis=1)), 2))
        begin, end = np.interp(edges[[0, -1]], knots, times)
        edges = np.linspace(begin, end, len(edges))
    return np.asarray(np.diff(np.interp(edges, times, levels)) / np.diff(edges))
