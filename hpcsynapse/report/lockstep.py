"""Runs whose ranks wait for one another, from the records of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hpcsynapse.errors import RecordError
from hpcsynapse.report.describe import RunDescription
from hpcsynapse.report.loaded import LoadedRun
from hpcsynapse.report.periods import OwnTime
from hpcsynapse.report.sums import Floats, Sums
from hpcsynapse.report.whole import Whole
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.timing import CAUSES

_ROUNDING = 1e-6  # of sums of Unix times: less than this share of a run is no pause


def load_lockstep(
    source: RunDirectory | Path, about: RunDescription, ranks: Iterable[tuple[int, OwnTime]], starts: int
) -> LoadedRun:
    """Return a run from the steps of its ranks, by number.

    Raises RecordError when a rank recorded no step, or when there is none that all of them recorded.
    """
    sums: Sums | None = None
    whole = Whole(starts)
    for rank, own in ranks:
        if sums is None:
            if not len(own.records):
                raise RecordError(f"{about.name}: rank {rank} recorded no step with a duration")
            sums = Sums(own.records)
        sums.add(own.records, own.origin, own.period, own.paused)
        whole.add(rank, own)
    if sums is None:
        raise RecordError(f"{about.name}: no step records")
    return of_sums(source, about, sums, whole)


def of_sums(source: RunDirectory | Path, about: RunDescription, sums: Sums, run: Whole | None = None) -> LoadedRun:
    """Return a run whose ranks waited for one another, from the sums over all of them.

    Raises RecordError when there is no step that all ranks recorded.
    """
    used = (sums.count == about.ranks) & (sums.origin_low == sums.origin_high)
    if not used.any():
        raise RecordError(f"{about.name}: there is no step that all {about.ranks} ranks recorded")
    period = sums.periods_of(about.ranks)
    found = sums.settle(used, period)
    epoch_times, length = sums.epochs(about, used, period)
    newest = sums.origin_high == sums.origin_high.max()
    first, last = float(sums.start[newest].min()), float((sums.start + sums.slowest)[newest].max())
    run = run or Whole(1)
    began = run.first_step if np.isfinite(run.first_step) else first
    pauses = np.zeros(len(CAUSES)) if sums.paused is None else sums.paused.sum(axis=0)
    whole_s, pauses = _whole(run, float(period[used].sum()), pauses + run.after)
    return LoadedRun(
        source=source,
        about=about,
        step=sums.step[used],
        epoch=sums.epoch[used],
        period=period[used],
        slowest=sums.slowest[used],
        total=sums.total[used] / about.ranks,
        latest=sums.latest[used],
        samples=sums.samples[used],
        phases=sums.phases[used] / about.ranks,
        loss=sums.loss[used] / about.ranks,
        start=sums.start[used],
        warmup=sums.warmup[used],
        detected=found,
        left_out=int((~used).sum()) + len(np.setdiff1d(np.concatenate([sums.extra, *run.unusable]), sums.step)),
        epoch_times=epoch_times,
        steps_per_epoch=length,
        start_up_s=None if about.start_up_from is None else max(0.0, began - about.start_up_from),
        span_s=last - first,
        whole_s=whole_s,
        pauses=pauses,
        counted=float(sums.samples[used].sum()),
        starts=run.starts,
        begun=about.begun,
        rates=np.empty(0),
    )


def _whole(run: Whole, steps: float, pauses: Floats) -> tuple[float, Floats]:
    """Return the seconds of the whole run, and its pauses with what is neither a step in use nor a marked pause.

    Where the job was started again that is the restart, with the steps that were made twice.
    """
    known = steps + float(pauses.sum())
    rest = run.mean - known  # ranks that wait for one another end together
    if not rest > _ROUNDING * known:
        return known, pauses
    pauses[CAUSES.index("restart" if run.starts > 1 else "other")] += rest
    return run.mean, pauses
