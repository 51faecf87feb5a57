"""A digest of the step records of this node's ranks, so that a viewer reads one small file a node and none a rank."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from hpcsynapse.files import is_there
from hpcsynapse.job.sampler.source import Values
from hpcsynapse.runs.telemetry import Column
from hpcsynapse.timing import FIELDS, PAUSE, PHASES, RECORD

_PATIENCE = 10  # looks that find nothing new before another file is looked for
_AT_MOST = 16  # records of a rank that are looked at each time: its newest
_PLACE = {name: place for place, (name, _, _) in enumerate(FIELDS)}
_FIRST, _LAST = _PLACE[PHASES[0]], _PLACE[PHASES[-1]] + 1


class _Rank:
    """The record file of one rank, from where it was read last; a rank that is started again begins another."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._offset = path, -1, 0
        self._first, self._life, self._idle = path, 0, 0

    def new(self) -> tuple[int, list[tuple[float, ...]]]:
        """Return how many records are new, and the newest of those."""
        count, records = self._read()
        self._idle = 0 if count else self._idle + 1
        if self._file >= 0 and self._idle and self._idle % _PATIENCE == 0:
            # Looked for rarely: on a parallel file system it costs a server's time (StepRecorder, `keep`).
            behind = self._first.with_name(f"{self._first.name.removesuffix('.steps')}+{self._life + 1}.steps")
            if is_there(behind):
                os.close(self._file)
                self._path, self._file, self._life = behind, -1, self._life + 1
        return count, records

    def _read(self) -> tuple[int, list[tuple[float, ...]]]:
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                head = os.pread(self._file, 65536, 0).find(b"\n") + 1
                if not head:
                    os.close(self._file)
                    self._file = -1
                    return 0, []
                self._offset = head
            count = (os.fstat(self._file).st_size - self._offset) // RECORD.size
            if count <= 0:
                return 0, []
            skip = max(0, count - _AT_MOST)
            data = os.pread(self._file, (count - skip) * RECORD.size, self._offset + skip * RECORD.size)
        except OSError:
            return 0, []
        whole = len(data) // RECORD.size * RECORD.size
        self._offset += skip * RECORD.size + whole
        return skip + whole // RECORD.size, list(RECORD.iter_unpack(data[:whole]))


class Steps:
    """The steps that the node's ranks have recorded since the last look."""

    columns = (
        Column("step", "<u4", "", "newest step that all ranks of the node have recorded"),
        Column("samples", "<f4", "samples", "samples of the node's ranks"),
        Column("step_time", "<f4", "s", "time of a step, mean over ranks"),
        Column("own_median", "<f4", "s", "time of a step outside of communication, median over ranks"),
        Column("own_slowest", "<f4", "s", "the same of the slowest rank"),
        Column("slowest_rank", "<i4", "", "its number; -1 where no step was recorded"),
        *(Column(phase, "<f4", "s", f"{phase} in a step, mean over ranks") for phase in PHASES),
    )

    def __init__(self, folder: Path, attempt: str) -> None:
        self._folder, self._attempt = folder, attempt
        self._ranks: dict[int, _Rank] = {}
        self._newest: dict[int, int] = {}
        self.missing: dict[str, str] = {}
        self.told: dict[str, object] = {}

    def know(self, ranks: Collection[int]) -> None:
        """Take up the ranks that run here."""
        for rank in set(ranks) - self._ranks.keys():
            self._ranks[rank] = _Rank(self._folder / f"rank-{rank:05d}.{self._attempt}.steps")

    def read(self, seconds: float) -> Values:
        """Return the newest step, samples, times of a step and who is slowest; None where nothing is new."""
        own, totals, phases, samples = dict[int, float](), list[float](), list[list[float]](), 0.0
        for rank, file in self._ranks.items():
            count, records = file.new()
            steps = [one for one in records if not int(one[_PLACE["flags"]]) & PAUSE]
            if not steps:
                continue
            total = _mean(steps, _PLACE["total"])
            totals.append(total)
            own[rank] = total - _mean(steps, _PLACE["communicate"])
            phases.append([_mean(steps, place) for place in range(_FIRST, _LAST)])
            samples += _mean(steps, _PLACE["samples"]) * (count - len(records) + len(steps))  # pauses are rare
            self._newest[rank] = int(steps[-1][0])
        step = min(self._newest.values(), default=0) if len(self._newest) == len(self._ranks) else 0
        if not own:
            return [step, 0.0, None, None, None, -1, *[None] * len(PHASES)]
        slowest = max(own, key=lambda rank: own[rank])
        middle = sorted(own.values())[(len(own) - 1) // 2]  # of an even number the quicker: two ranks show the slow one
        means: Values = [sum(column) / len(column) for column in zip(*phases, strict=True)]
        return [step, samples, sum(totals) / len(totals), middle, own[slowest], slowest, *means]


def _mean(records: list[tuple[float, ...]], place: int) -> float:
    return sum(record[place] for record in records) / len(records)
