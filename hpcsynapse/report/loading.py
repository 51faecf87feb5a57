"""Step records of a run, read rank by rank: memory grows with the steps of a run, not with its records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.errors import RecordError
from hpcsynapse.records import Part, parts
from hpcsynapse.report.describe import RunDescription, describe
from hpcsynapse.report.sums import Floats, Records, Sums
from hpcsynapse.rundir import RunDirectory
from hpcsynapse.timing import FIELDS, MERGED_NAME, PHASES, WARMUP

DTYPE = np.dtype([(name, kind) for name, kind, _ in FIELDS])
RATE_BINS = 40
QUANTILES = 101


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun:
    """What a report needs of one run; arrays hold one entry per step that every rank recorded.

    `slowest` is the largest `total` of all ranks (s), `total` their mean, `latest` the largest time before and after
    communication (s), `samples` the sum over ranks, `phases` the mean over ranks (s, shape (steps, 5), order of
    PHASES), `loss` the mean over ranks, `start` the earliest start (Unix time), `warmup` whether any rank flagged the
    step or it is one of the `detected` first unflagged ones, which were slower than the rest. `left_out` counts steps
    that some ranks did not record, or not in the same start of the job. `span_s` is the time from the first step's
    start to the last one's end, of the newest start of the job.

    Asynchronous strategies have empty step arrays. Theirs are `rates` (samples/s of all ranks in equal slices of the
    common measured window; `start` and `loss` are those of the slices), `worker_step_time` (s), `worker_steps` and
    `worker_warmup` (a worker's measured and flagged steps, mean), `worker_times` (s, equally many quantiles of every
    worker's step time), and sums over all measured steps of all workers: `worker_spent` (s: phases in the order of
    PHASES, then totals) on `worker_counted` samples. `source` is where all of it was read from.
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
    worker_step_time: float | None
    detected: int = 0
    worker_steps: int = 0
    worker_warmup: int = 0
    worker_samples: float = 0.0
    worker_times: Floats = field(default_factory=lambda: np.empty(0))
    worker_spent: Floats = field(default_factory=lambda: np.zeros(len(PHASES) + 1))
    worker_counted: float = 0.0


def find_records(runs: Path, name: str) -> RunDirectory | Path:
    """Return the run of that name, or the bare folder of record files at that path.

    Raises RunNotFoundError when it is neither.
    """
    folder = Path(name)
    if not (folder / "run.toml").is_file() and not (runs / name / "run.toml").is_file():
        for place in (folder, folder / "timings"):
            if (place / MERGED_NAME).is_file() or any(place.glob("rank-*.steps")):
                return place
    return RunDirectory.find(runs, name)


def load(source: RunDirectory | Path) -> LoadedRun:
    """Read all records of a run; of several starts of the job the newest wins for every (rank, step).

    Raises RecordError when there are none, or when ranks left none.
    """
    about, by_rank, starts = _open(source)
    with _Reader() as reader:
        if about.asynchronous:
            return _load_asynchronous(source, about, reader, list(by_rank.values()), starts)
        if len(by_rank) < about.ranks:
            missing = sorted(set(range(about.ranks)) - set(by_rank))[:5]
            raise RecordError(
                f"{about.name}: {about.ranks - len(by_rank)} of {about.ranks} ranks left no step records, for example "
                f"rank {missing[0] if missing else '?'}; see its log in the run directory"
            )
        return _load_lockstep(source, about, reader, list(by_rank.values()), starts)


def each_rank(source: RunDirectory | Path) -> Iterator[tuple[dict[str, Any], Records]]:
    """Yield the newest description of every rank and its records by step, which are valid until the next are asked for.

    Raises RecordError when there are none.
    """
    _, by_rank, starts = _open(source)
    with _Reader() as reader:
        for own in by_rank.values():
            yield own[-1].header, reader.rank(own, starts)[0]


def _open(source: RunDirectory | Path) -> tuple[RunDescription, dict[int, list[Part]], dict[str, int]]:
    """Return what was run, the parts of every rank by time, and a number for every start of the job."""
    run = source if isinstance(source, RunDirectory) else None
    folder = run.timings if run else Path(str(source))
    name = run.name if run else str(source)
    found = [part for part in parts(folder) if part.count]
    if not found:
        raise RecordError(f"{name}: no step records in {folder}; has the run done a step yet?")
    by_rank: dict[int, list[Part]] = {}
    for part in found:
        by_rank.setdefault(part.header["rank"], []).append(part)
    starts = {label: index for index, label in enumerate(dict.fromkeys(_start_label(part) for part in found))}
    return describe(name, [part.header for part in found], run), by_rank, starts


def _start_label(part: Part) -> str:
    return str(part.header.get("attempt", "0"))


class _Reader:
    """Reads parts into one buffer that is used again; keeps the last file open, as a merged one holds many parts."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._path: Path | None = None
        self._descriptor = -1

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def records(self, part: Part) -> Records:
        """Return the records of a part: a view that the next call overwrites."""
        if part.path != self._path:
            self.__exit__(None, None, None)
            self._descriptor = os.open(part.path, os.O_RDONLY)
            self._path = part.path
        size = part.count * DTYPE.itemsize
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        view, done = memoryview(self._buffer)[:size], 0
        while done < size and (count := os.preadv(self._descriptor, [view[done:]], part.offset + done)):
            done += count
        return np.frombuffer(self._buffer, DTYPE, done // DTYPE.itemsize)

    def rank(self, own: Sequence[Part], starts: dict[str, int]) -> tuple[Records, npt.NDArray[np.int64]]:
        """Return the records of one rank by step, newest start first choice, and the start each is from."""
        if len(own) == 1:
            records = _usable(self.records(own[0]))
            origin = np.full(len(records), starts[_start_label(own[0])])
        else:
            pieces = [_usable(self.records(part)).copy() for part in own]
            records = np.concatenate(pieces)
            origin = np.repeat([starts[_start_label(part)] for part in own], [len(piece) for piece in pieces])
        if not np.all(records["step"][1:] > records["step"][:-1]):
            _, last = np.unique(records["step"][::-1], return_index=True)
            chosen = len(records) - 1 - last
            records, origin = records[chosen], origin[chosen]
        return records, origin


def _usable(records: Records) -> Records:
    """Drop records without a positive, finite duration; such a step counts as not recorded."""
    usable = (records["total"] > 0) & (records["total"] < np.inf)
    return records if usable.all() else records[usable]


def _load_lockstep(
    source: RunDirectory | Path, about: RunDescription, reader: _Reader, ranks: list[list[Part]], starts: dict[str, int]
) -> LoadedRun:
    sums: Sums | None = None
    for own in ranks:
        records, origin = reader.rank(own, starts)
        if sums is None:
            if not len(records):
                raise RecordError(f"{about.name}: rank {own[0].header['rank']} recorded no step with a duration")
            sums = Sums(records)
        sums.add(records, origin)
    if sums is None:
        raise RecordError(f"{about.name}: no step records")
    return of_sums(source, about, sums)


def of_sums(source: RunDirectory | Path, about: RunDescription, sums: Sums) -> LoadedRun:
    """Return a run whose ranks waited for one another, from the sums over all of them.

    Raises RecordError when there is no step that all ranks recorded.
    """
    whole = (sums.count == about.ranks) & (sums.origin_low == sums.origin_high)
    if not whole.any():
        raise RecordError(f"{about.name}: there is no step that all {about.ranks} ranks recorded")
    found = sums.settle(whole)
    epoch_times, length = sums.epochs(about, whole)
    newest = sums.origin_high == sums.origin_high.max()
    first, last = float(sums.start[newest].min()), float((sums.start + sums.slowest)[newest].max())
    return LoadedRun(
        source=source,
        about=about,
        step=sums.step[whole],
        epoch=sums.epoch[whole],
        slowest=sums.slowest[whole],
        total=sums.total[whole] / about.ranks,
        latest=sums.latest[whole],
        samples=sums.samples[whole],
        phases=sums.phases[whole] / about.ranks,
        loss=sums.loss[whole] / about.ranks,
        start=sums.start[whole],
        warmup=sums.warmup[whole],
        detected=found,
        left_out=int((~whole).sum()) + len(sums.extra),
        epoch_times=epoch_times,
        steps_per_epoch=length,
        start_up_s=None if about.start_up_from is None else max(0.0, first - about.start_up_from),
        span_s=last - first,
        rates=np.empty(0),
        worker_step_time=None,
    )


def _load_asynchronous(
    source: RunDirectory | Path, about: RunDescription, reader: _Reader, ranks: list[list[Part]], starts: dict[str, int]
) -> LoadedRun:
    """Count samples of all workers over the common measured window; records are read twice instead of being kept."""

    firsts, flagged = [], []

    def measured() -> Iterator[Records]:
        for own in ranks:
            records, origin = reader.rank(own, starts)
            firsts.append(float(records["start"][origin == origin.max()][0]) if len(records) else np.inf)
            cold = records[(records["flags"] & WARMUP) == 0]
            flagged.append(len(records) - len(cold) if len(cold) else 0)
            yield cold if len(cold) else records

    spans = [
        (float(mine["start"][0]), float(mine["start"][-1] + mine["total"][-1])) for mine in measured() if len(mine)
    ]
    begin, end = max(span[0] for span in spans), min(span[1] for span in spans)
    if not begin < end:
        raise RecordError(f"{about.name}: the measured steps of the workers do not overlap in time")
    edges = np.linspace(begin, end, RATE_BINS + 1)
    done, times, batches, steps = np.zeros(RATE_BINS), [], [], 0
    losses, seen, spread, spent = np.zeros(RATE_BINS), np.zeros(RATE_BINS), [], np.zeros(len(PHASES) + 1)
    counted = 0.0
    for mine in measured():
        if len(mine):
            knots = np.stack((mine["start"], mine["start"] + mine["total"]), axis=1).ravel()
            counts = np.cumsum(mine["samples"], dtype=np.float64)
            levels = np.stack((counts - mine["samples"], counts), axis=1).ravel()
            done += np.diff(np.interp(edges, np.maximum.accumulate(knots), levels))
            times.append(float(np.median(mine["total"])))
            batches.append(float(np.median(mine["samples"])))
            steps += len(mine)
            spread.append(np.quantile(mine["total"], np.linspace(0, 1, QUANTILES)))
            spent += [mine[name].sum(dtype=np.float64) for name in (*PHASES, "total")]
            counted += float(mine["samples"].sum(dtype=np.float64))
            losses += np.histogram(mine["start"], edges, weights=mine["loss"])[0]
            seen += np.histogram(mine["start"], edges)[0]
    none: Any = np.empty(0)
    return LoadedRun(
        source=source, about=about, step=none, epoch=none, slowest=none, total=none, latest=none, samples=none,
        phases=np.empty((0, len(PHASES))), loss=np.divide(losses, seen, where=seen > 0, out=np.full(RATE_BINS, np.nan)),
        start=edges[:-1], warmup=none, left_out=0, epoch_times=none, steps_per_epoch=None,
        span_s=max(last for _, last in spans) - min(first for first, _ in spans),
        start_up_s=None if about.start_up_from is None else max(0.0, min(firsts) - about.start_up_from),
        rates=done / np.diff(edges), worker_step_time=float(np.median(times)),
        worker_steps=steps // len(times), worker_warmup=sum(flagged) // len(flagged), worker_samples=sum(batches),
        worker_times=np.concatenate(spread), worker_spent=spent, worker_counted=counted,
    )  # fmt: skip
