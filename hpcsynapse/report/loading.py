"""Step records of a run, read rank by rank: memory grows with the steps of a run, not with its records."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hpcsynapse.errors import RecordError
from hpcsynapse.files import read_json
from hpcsynapse.recording.environment import remark_path
from hpcsynapse.report.asynchronous import load_asynchronous
from hpcsynapse.report.describe import RunDescription, describe
from hpcsynapse.report.loaded import LoadedRun
from hpcsynapse.report.lockstep import load_lockstep, of_sums
from hpcsynapse.report.offsets import Correct, correction_of
from hpcsynapse.report.periods import Life, OwnTime, own_time
from hpcsynapse.report.reading import tell
from hpcsynapse.report.sums import Records
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import Part, parts
from hpcsynapse.study.folder import find_run
from hpcsynapse.timing import FIELDS, MERGED_NAME

__all__ = ["DTYPE", "LoadedRun", "each_rank", "each_time", "find_records", "load", "of_sums"]
DTYPE = np.dtype([(name, kind) for name, kind, _ in FIELDS])


def find_records(runs: Path, name: str) -> RunDirectory | Path:
    """Return the run of that name, or the bare folder of record files at that path.

    Raises RunNotFoundError when it is neither.
    """
    folder = Path(name)
    if not (folder / "run.toml").is_file() and not (runs / name / "run.toml").is_file():
        for place in (folder, folder / "timings"):
            if (place / MERGED_NAME).is_file() or any(place.glob("rank-*.steps")):
                return place
    return find_run(runs, name)


def load(source: RunDirectory | Path) -> LoadedRun:
    """Read all records of a run; of several starts of the job the newest wins for every (rank, step).

    Raises RecordError when there are none, or when ranks left none.
    """
    about, by_rank = _open(source)
    starts = len({one.start for own in by_rank.values() for one in own})
    with _Reader(_correction(source, by_rank)) as reader:

        def ranks() -> Iterator[tuple[int, OwnTime]]:
            for number, (rank, own) in enumerate(by_rank.items()):
                tell(about.name, number, len(by_rank))
                yield rank, reader.rank(own)
            tell(about.name, len(by_rank), len(by_rank))

        if about.asynchronous:
            return load_asynchronous(source, about, ranks, starts)
        if len(by_rank) < about.ranks:
            missing = sorted(set(range(about.ranks)) - set(by_rank))[:5]
            raise RecordError(
                f"{about.name}: {about.ranks - len(by_rank)} of {about.ranks} ranks left no step records, for example "
                f"rank {missing[0] if missing else '?'}; see its log in the run directory"
            )
        return load_lockstep(source, about, ranks(), starts)


def each_rank(source: RunDirectory | Path) -> Iterator[tuple[dict[str, Any], Records]]:
    """Yield the newest description of every rank and its steps, in order, which are valid until the next are asked for.

    Raises RecordError when there are none.
    """
    for header, own in each_time(source):
        yield header, own.records


def each_time(source: RunDirectory | Path) -> Iterator[tuple[dict[str, Any], OwnTime]]:
    """Yield the newest description of every rank, and its steps with their periods; else as `each_rank`."""
    _, by_rank = _open(source)
    with _Reader(_correction(source, by_rank)) as reader:
        for own in by_rank.values():
            yield own[-1].part.header, reader.rank(own)


def _why_none(run: RunDirectory | None) -> str:
    """Say why a run has no records: what the recording left word of, or else that it may not have begun."""
    status = (read_json(run.status) or {}) if run else {}
    if run:
        with suppress(OSError):
            return f": {remark_path(run.path, str(status.get('attempt', '0')), 0).read_text(errors='replace').strip()}"
    over = status.get("state") == "FINISHED"
    return ": the program recorded none, see docs/recording.md" if over else "; has the run done a step yet?"


def _open(source: RunDirectory | Path) -> tuple[RunDescription, dict[int, list[Life]]]:
    """Return what was run, and the parts of every rank by time.

    Raises RecordError when there are none, or when they are of runs by unlike means.
    """
    run = source if isinstance(source, RunDirectory) else None
    folder = run.timings if run else Path(str(source))
    name = run.name if run else str(source)
    found = [part for part in parts(folder) if part.count]
    if not found:
        raise RecordError(f"{name}: no step records in {folder}{_why_none(run)}")
    found = _alike(name, found)
    starts = {label: index for index, label in enumerate(dict.fromkeys(map(_start_label, found)))}
    by_rank: dict[int, list[Life]] = {}
    lives: Counter[tuple[int, int]] = Counter()
    for part in found:
        rank, start = part.header["rank"], starts[_start_label(part)]
        by_rank.setdefault(rank, []).append(Life(part, start, lives[rank, start]))
        lives[rank, start] += 1
    return describe(name, [part.header for part in found], run), by_rank


def _correction(source: RunDirectory | Path, by_rank: dict[int, list[Life]]) -> Correct:
    folder = source.timings if isinstance(source, RunDirectory) else Path(str(source))
    return correction_of(folder, [one.part for own in by_rank.values() for one in own])


def _start_label(part: Part) -> str:
    return str(part.header.get("attempt", "0"))


def _alike(name: str, found: list[Part]) -> list[Part]:
    """Return the parts of the newest start of the job and of those before it that trained in the same way."""

    def way(part: Part) -> tuple[str, str]:
        engine = str(part.header.get("engine", ""))  # a rank that is alone on its node has none
        return str(part.header.get("exchange") or part.header.get("strategy", "")), "" if engine == "none" else engine

    newest = _start_label(found[-1])
    ways = {way(part) for part in found if _start_label(part) == newest}
    for column, what in enumerate(("strategies", "engines")):
        values = sorted({one[column] for one in ways} - {""})
        if len(values) > 1:
            raise RecordError(
                f"{name}: its ranks tell different {what} ({', '.join(values)}): these are records of several runs; "
                "give each run a folder of its own"
            )
    return [part for part in found if _start_label(part) == newest or way(part) in ways]


class _Reader:
    """Reads parts into one buffer that is used again; keeps the last file open, as a merged one holds many parts.

    Starts are those that `correct` makes of what the records say.
    """

    def __init__(self, correct: Correct) -> None:
        self._correct = correct
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
        records = np.frombuffer(self._buffer, DTYPE, done // DTYPE.itemsize)
        records["start"] = self._correct(part, records["start"])
        return records

    def rank(self, own: Sequence[Life]) -> OwnTime:
        """Return the steps of one rank: of several starts of the job the newest counts for every step.

        Of two lives within one start it is the earlier one: it made the step together with the other ranks.
        """
        if len(own) == 1:
            return own_time([self.records(own[0].part)], own[:1])
        ordered = sorted(own, key=lambda one: (one.start, -one.life))
        return own_time([self.records(one.part).copy() for one in ordered], ordered)
