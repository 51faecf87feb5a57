"""Step records for a picture: so many points of one rank, or so many stretches of all ranks, whatever their number.

Only the records of a point or stretch are read, a few of each (`of` says how many at most): ten million steps cost as
much as ten thousand. Statistics over all of them are for reports.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from hpcsynapse.runs.records import Part, parts
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.schema import Limits
from hpcsynapse.submission.status import as_text
from hpcsynapse.timing import FIELDS, PAUSE, PHASES, RECORD

_OF_POINT, _OF_STRETCH = 8, 4  # records that are read of each
_MOST_CELLS = 40_000  # of a picture of all ranks
_MOST_LINES = 256
_MOST_OPEN = 64
_AT = {name: number for number, (name, _, _) in enumerate(FIELDS)}
Measure = Literal["before", "total", "data"]
RankNumber = Annotated[int, Limits(0, 10**7)]
Points = Annotated[int, Limits(2, 2000)]


@dataclass(frozen=True, slots=True)
class Curve:
    """The steps of one rank as `points` of equal stretches, each the mean of at most `of` of its records.

    Lists have one length: step and Unix time of the end of a point's last record, its loss, duration (s), phases (s, by
    name) and samples a second of all ranks if all did as much. null: not known. `step` may go back where a run was
    started again. `metrics` are the results of validations, by name: step and value.
    """

    name: str
    rank: int
    steps: int
    of: int
    step: list[int]
    time: list[float]
    loss: list[float | None]
    total: list[float | None]
    phases: dict[str, list[float | None]]
    samples_per_s: list[float | None]
    metrics: dict[str, list[list[float]]]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """What ranks needed in equal stretches of the newest start: `seconds[line][stretch]`, mean of at most `of`.

    A line stands for the ranks `first` to `last`, of which it shows the longest. `measure` is the time before the
    collective, the whole step, or the wait for data. `step` is the first step of every stretch; before the first step
    all lists are empty.
    """

    name: str
    measure: str
    of: int
    step: list[int]
    first: list[int]
    last: list[int]
    hosts: list[str]
    seconds: list[list[float | None]]


def curve(index: RunIndex, name: str, rank: RankNumber = 0, points: Points = 400) -> Curve:
    """Return the curves of one rank of a run, and its validations."""
    run = index.find(name)
    own = [part for part in parts(run.timings) if part.header["rank"] == rank and part.count]
    ranks = max((_whole(part.header.get("world_size")) for part in own), default=1)
    count = sum(part.count for part in own)
    with _Files() as files:
        found = [_mean(files, own, begin, end, _OF_POINT) for begin, end in _stretches(count, points)]
    known = [one for one in found if one]
    rates = [one["samples"] * ranks / one["total"] if one["total"] else None for one in known]
    return Curve(
        name=name,
        rank=rank,
        steps=count,
        of=_OF_POINT,
        step=[int(one["step"]) for one in known],
        time=[one["time"] for one in known],
        loss=[one["loss"] for one in known],
        total=[one["total"] for one in known],
        phases={phase: [one[phase] for one in known] for phase in PHASES},
        samples_per_s=rates,
        metrics=_metrics(run.read_metrics(), points),
    )


def heat_map(index: RunIndex, name: str, measure: Measure = "before") -> HeatMap:
    """Return what every rank needed over the steps of a run."""
    run = index.find(name)
    found = [part for part in parts(run.timings) if part.count]
    if not found:
        return HeatMap(name, measure, _OF_STRETCH, [], [], [], [], [])
    newest = str(found[-1].header.get("attempt", "0"))
    by_rank = {part.header["rank"]: part for part in found if str(part.header.get("attempt", "0")) == newest}
    ranks = [by_rank[rank] for rank in sorted(by_rank)]
    count = min(part.count for part in ranks)
    bins = _stretches(count, max(4, min(120, _MOST_CELLS // len(ranks))))
    per_line = math.ceil(len(ranks) / _MOST_LINES)
    lines = [ranks[begin : begin + per_line] for begin in range(0, len(ranks), per_line)]
    steps: list[int] = []
    seconds = []
    with _Files() as files:
        for line in lines:
            cells = [[_mean(files, [part], begin, end, _OF_STRETCH) for begin, end in bins] for part in line]
            steps = steps or [int(one["first"]) if one else 0 for one in cells[0]]
            seconds.append([_longest([row[at] for row in cells], measure) for at in range(len(bins))])
    return HeatMap(
        name=name,
        measure=measure,
        of=_OF_STRETCH,
        step=steps,
        first=[line[0].header["rank"] for line in lines],
        last=[line[-1].header["rank"] for line in lines],
        hosts=[as_text(str(line[0].header.get("host", ""))) for line in lines],
        seconds=seconds,
    )


def _longest(cells: Sequence[dict[str, float] | None], measure: str) -> float | None:
    return max((one[measure] for one in cells if one), default=None)


def _stretches(count: int, wanted: int) -> list[tuple[int, int]]:
    bins = min(count, wanted)
    return [(count * number // bins, count * (number + 1) // bins) for number in range(bins)]


def _mean(files: _Files, own: Sequence[Part], begin: int, end: int, most: int) -> dict[str, float] | None:
    """Return the mean of the last records of a stretch that are steps, over the starts of a rank one after another."""
    records: list[tuple[float, ...]] = []
    for part in own:
        count = part.count
        if begin < count and end > 0:
            first = max(begin, 0, min(end, count) - most)
            records += files.read(part, first, min(end, count) - first)
        begin, end = begin - count, end - count
    steps = [one for one in records if not int(one[_AT["flags"]]) & PAUSE]
    if not steps:
        return None
    found = {name: _average([one[_AT[name]] for one in steps]) for name in (*PHASES, "total", "samples", "loss")}
    last = steps[-1]
    found["step"], found["first"] = last[_AT["step"]], steps[0][_AT["step"]]
    found["time"] = last[_AT["start"]] + last[_AT["total"]]
    found["before"] = max(0.0, found["total"] - found["communicate"] - found["update"])
    return found


class _Files:
    """Record files, each opened once: a merged one holds the parts of all ranks."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def read(self, part: Part, first: int, count: int) -> list[tuple[float, ...]]:
        """Return records of a part, as far as they are whole."""
        if part.path not in self._open:
            if len(self._open) >= _MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[part.path] = os.open(part.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        data = os.pread(self._open[part.path], count * RECORD.size, part.offset + first * RECORD.size)
        return list(RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]))


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 1


def _metrics(told: Sequence[dict[str, object]], most: int) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {}
    for record in told:
        step = record.get("step")
        for key, value in record.items():
            usable = isinstance(value, (int, float)) and not isinstance(value, bool)
            if usable and isinstance(step, int) and key not in ("time", "step", "epoch", "samples"):
                found.setdefault(as_text(key)[:40], []).append([step, float(value)])  # type: ignore[arg-type]
    return {key: values[-most:] for key, values in list(found.items())[:32]}
