"""Step records of a run, read rank by rank: memory grows with the steps of a run, not with its records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.errors import RecordError
from hpcsynapse.records import Part, parts
from hpcsynapse.report.describe import RunDescription, describe
from hpcsynapse.rundir import RunDirectory
from hpcsynapse.timing import FIELDS, MERGED_NAME, PHASES, WARMUP

Records = npt.NDArray[np.void]
Floats = npt.NDArray[np.float64]
DTYPE = np.dtype([(name, kind) for name, kind, _ in FIELDS])
RATE_BINS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun:
    """What a report needs of one run; arrays hold one entry per step that every rank recorded.

    `slowest` is the largest `total` of all ranks (s), `samples` the sum over ranks, `phases` the mean over ranks
    (s, shape (steps, 5), order of PHASES), `start` the earliest start (Unix time), `warmup` whether any rank flagged
    the step. `rates` (samples/s of all ranks in equal slices of the common measured window) and `worker_step_time`
    (s) are given for asynchronous strategies, whose step arrays are empty. `left_out` counts steps that some ranks
    did not record, or not in the same start of the job.
    """

    about: RunDescription
    step: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.int64]
    slowest: Floats
    samples: Floats
    phases: Floats
    start: Floats
    warmup: npt.NDArray[np.bool_]
    left_out: int
    epoch_times: Floats
    steps_per_epoch: int | None
    start_up_s: float | None
    rates: Floats
    worker_step_time: float | None
    worker_steps: int = 0
    worker_samples: float = 0.0


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
    run = source if isinstance(source, RunDirectory) else None
    folder = run.timings if run else Path(str(source))
    name = run.name if run else str(source)
    found = [part for part in parts(folder) if part.count]
    if not found:
        raise RecordError(f"{name}: no step records in {folder}; has the run done a step yet?")
    about = describe(name, [part.header for part in found], run)
    by_rank: dict[int, list[Part]] = {}
    for part in found:
        by_rank.setdefault(part.header["rank"], []).append(part)
    starts = {label: index for index, label in enumerate(dict.fromkeys(_start_label(part) for part in found))}
    with _Reader() as reader:
        if about.asynchronous:
            return _load_asynchronous(about, reader, list(by_rank.values()), starts)
        if len(by_rank) < about.ranks:
            missing = sorted(set(range(about.ranks)) - set(by_rank))[:5]
            raise RecordError(
                f"{name}: {about.ranks - len(by_rank)} of {about.ranks} ranks left no step records, for example "
                f"rank {missing[0] if missing else '?'}; see its log in the run directory"
            )
        return _load_lockstep(about, reader, list(by_rank.values()), starts)


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


class _Sums:
    """Sums over ranks for every step that the first rank recorded."""

    def __init__(self, first: Records) -> None:
        size = len(first)
        self.step = first["step"].astype(np.int64)
        self.epoch = first["epoch"].astype(np.int64)
        self.count = np.zeros(size, np.int64)
        self.slowest, self.samples = np.zeros(size), np.zeros(size)
        self.phases = np.zeros((size, len(PHASES)))
        self.start = np.full(size, np.inf)
        self.warmup = np.zeros(size, np.bool_)
        self.origin_low, self.origin_high = np.full(size, 1 << 30), np.full(size, -1)
        changes = np.flatnonzero(self.epoch[1:] != self.epoch[:-1]) + 1
        self.epoch_first = np.concatenate(([0], changes)).astype(np.int64)
        self.epoch_last = np.concatenate((changes - 1, [size - 1])).astype(np.int64)
        self.epoch_span = np.zeros(len(self.epoch_first))
        self.extra: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def rows(self, steps: npt.NDArray[np.int64]) -> tuple[slice | npt.NDArray[np.int64], slice | npt.NDArray[np.int64]]:
        """Return where a rank's records belong here, and which of its records those are."""
        common = min(len(steps), len(self.step))
        if np.array_equal(steps[:common], self.step[:common]):  # nearly always; the rest is a torn end
            self.extra = np.union1d(self.extra, steps[common:]) if len(steps) > common else self.extra
            return slice(0, common), slice(0, common)
        shared, here, there = np.intersect1d(self.step, steps, assume_unique=True, return_indices=True)
        self.extra = np.union1d(self.extra, np.setdiff1d(steps, shared, assume_unique=True))
        return here, there

    def add(self, records: Records, origin: npt.NDArray[np.int64]) -> None:
        """Add the records of one rank."""
        here, there = self.rows(records["step"].astype(np.int64))
        mine, came = records[there], origin[there]
        self.count[here] += 1
        self.slowest[here] = np.maximum(self.slowest[here], mine["total"])
        self.samples[here] += mine["samples"]
        for column, phase in enumerate(PHASES):
            self.phases[here, column] += mine[phase]
        self.start[here] = np.minimum(self.start[here], mine["start"])
        self.warmup[here] |= (mine["flags"] & WARMUP) != 0
        self.origin_low[here] = np.minimum(self.origin_low[here], came)
        self.origin_high[here] = np.maximum(self.origin_high[here], came)
        self._add_epochs(here, mine)

    def _add_epochs(self, here: slice | npt.NDArray[np.int64], mine: Records) -> None:
        # Each rank by its own clock, so that clocks of different nodes need not agree; a clock that was set back does
        # not make an epoch shorter than its steps. NaN: not recorded whole.
        first, last, total = (np.full(len(self.step), np.nan) for _ in range(3))
        first[here], total[here] = mine["start"], mine["total"]
        last[here] = mine["start"] + mine["total"]
        own = np.maximum(last[self.epoch_last] - first[self.epoch_first], np.add.reduceat(total, self.epoch_first))
        self.epoch_span = np.maximum(self.epoch_span, own)

    def epochs(self, about: RunDescription, whole: npt.NDArray[np.bool_]) -> tuple[Floats, int | None]:
        """Return the times of epochs recorded in full (s) and the steps of a full epoch, where that is known.

        From an epoch's first start to its last end, so without validation and checkpoints between epochs; epochs
        with warm-up steps are used only when there are no others.
        """
        sizes = self.epoch_last - self.epoch_first + 1
        length = about.steps_per_epoch
        if length is None and len(sizes) > 1:  # an epoch is at its end where the next one begins
            length = int(sizes[:-1].max())
        if length is None and about.finished_whole and self.step[0] == 0:
            length = int(sizes[-1])
        gaps = np.concatenate(([0], np.cumsum(~whole)))
        complete = (gaps[self.epoch_last + 1] == gaps[self.epoch_first]) & np.isfinite(self.epoch_span)
        complete &= self.origin_low[self.epoch_first] == self.origin_high[self.epoch_last]  # no restart inside
        warm = np.concatenate(([0], np.cumsum(self.warmup)))
        cold = warm[self.epoch_last + 1] == warm[self.epoch_first]
        full = complete & (sizes == length) if length else np.zeros(len(sizes), np.bool_)
        return self.epoch_span[full & cold if (full & cold).any() else full], length


def _load_lockstep(
    about: RunDescription, reader: _Reader, ranks: list[list[Part]], starts: dict[str, int]
) -> LoadedRun:
    sums: _Sums | None = None
    for own in ranks:
        records, origin = reader.rank(own, starts)
        if sums is None:
            if not len(records):
                raise RecordError(f"{about.name}: rank {own[0].header['rank']} recorded no step with a duration")
            sums = _Sums(records)
        sums.add(records, origin)
    if sums is None:
        raise RecordError(f"{about.name}: no step records")
    whole = (sums.count == about.ranks) & (sums.origin_low == sums.origin_high)
    if not whole.any():
        raise RecordError(f"{about.name}: there is no step that all {about.ranks} ranks recorded")
    epoch_times, length = sums.epochs(about, whole)
    first = float(sums.start[sums.origin_high == sums.origin_high.max()].min())
    return LoadedRun(
        about=about,
        step=sums.step[whole],
        epoch=sums.epoch[whole],
        slowest=sums.slowest[whole],
        samples=sums.samples[whole],
        phases=sums.phases[whole] / about.ranks,
        start=sums.start[whole],
        warmup=sums.warmup[whole],
        left_out=int((~whole).sum()) + len(sums.extra),
        epoch_times=epoch_times,
        steps_per_epoch=length,
        start_up_s=None if about.start_up_from is None else max(0.0, first - about.start_up_from),
        rates=np.empty(0),
        worker_step_time=None,
    )


def _load_asynchronous(
    about: RunDescription, reader: _Reader, ranks: list[list[Part]], starts: dict[str, int]
) -> LoadedRun:
    """Count samples of all workers over the common measured window; records are read twice instead of being kept."""

    def measured() -> Iterator[Records]:
        for own in ranks:
            records, _ = reader.rank(own, starts)
            cold = records[(records["flags"] & WARMUP) == 0]
            yield cold if len(cold) else records

    spans = [
        (float(mine["start"][0]), float(mine["start"][-1] + mine["total"][-1])) for mine in measured() if len(mine)
    ]
    begin, end = max(span[0] for span in spans), min(span[1] for span in spans)
    if not begin < end:
        raise RecordError(f"{about.name}: the measured steps of the workers do not overlap in time")
    edges = np.linspace(begin, end, RATE_BINS + 1)
    done, times, batches, steps = np.zeros(RATE_BINS), [], [], 0
    for mine in measured():
        if len(mine):
            knots = np.stack((mine["start"], mine["start"] + mine["total"]), axis=1).ravel()
            counts = np.cumsum(mine["samples"], dtype=np.float64)
            levels = np.stack((counts - mine["samples"], counts), axis=1).ravel()
            done += np.diff(np.interp(edges, np.maximum.accumulate(knots), levels))
            times.append(float(np.median(mine["total"])))
            batches.append(float(np.median(mine["samples"])))
            steps += len(mine)
    none: Any = np.empty(0)
    return LoadedRun(
        about=about, step=none, epoch=none, slowest=none, samples=none, phases=np.empty((0, len(PHASES))), start=none,
        warmup=none, left_out=0, epoch_times=none, steps_per_epoch=None,
        start_up_s=None if about.start_up_from is None else max(0.0, begin - about.start_up_from),
        rates=done / np.diff(edges), worker_step_time=float(np.median(times)),
        worker_steps=steps // len(times), worker_samples=sum(batches),
    )  # fmt: skip
