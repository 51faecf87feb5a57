"""How far the clocks of a run's nodes were apart: one file a node and start of the job, beside its step records.

The first line of a file describes it (`host`, and `reference`: the host whose clock counts); every other one is a
measurement: `time` by the node's own clock (Unix time), `offset` (s, own clock minus that of the reference), `bound`
(s, by which the offset may be wrong) and `rtt` (s, of the quickest round trip). Between measurements the offset is
taken to change evenly, before the first and behind the last by the rate of those nearby, where they tell it well.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsynapse.files import append_json, read_json_lines

FORMAT = "hpcsynapse-clock"
VERSION = 1
ENDING = ".clock"
DRIFT = 50e-6  # by which a clock may go wrong where nothing is measured: twice what crystals do
_WANDER = 5e-6  # by which a rate that was measured changes
_WINDOW = 600.0  # seconds at an end over which the rate is taken
_SLEWED = 600e-6  # the most that adjusting a clock changes it (adjtimex(2): 500 ppm, and its own drift)
_MOST = 1e6  # seconds; a larger offset is no measurement


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement: when (Unix time, own clock), own clock minus the reference's, and its bound (s)."""

    time: float
    offset: float
    bound: float


class NodeClock:
    """The clock of one node, from its measurements; without any it is the reference's."""

    def __init__(self, points: Iterable[Measured]) -> None:
        self.points = sorted(points, key=lambda one: one.time)
        self._times = [one.time for one in self.points]

    def offset(self, when: float) -> float:
        """Return what the own clock is ahead (s) at a time that it shows."""
        return self._between(when)[0]

    def bound(self, when: float) -> float:
        """Return by how much (s) that offset may be wrong."""
        return self._between(when)[1]

    def corrected(self, when: float) -> float:
        """Return a time of the own clock by the reference's."""
        return when - self.offset(when)

    def _between(self, when: float) -> tuple[float, float]:
        if not self.points:
            return 0.0, 0.0
        place = bisect_right(self._times, when)
        if place in (0, len(self.points)):
            nearest = self.points[0 if place == 0 else -1]
            rate, doubt = self._rate(nearest)
            away = when - nearest.time
            return nearest.offset + rate * away, nearest.bound + doubt * abs(away)
        before, after = self.points[place - 1 : place + 1]
        share, change = (when - before.time) / (after.time - before.time), after.offset - before.offset
        bound = max(before.bound, after.bound)
        if abs(change) > before.bound + after.bound + _SLEWED * (after.time - before.time):
            bound += abs(change)  # it was set, at a moment that nobody knows
        return before.offset + share * change, bound

    def _rate(self, end: Measured) -> tuple[float, float]:
        """Return how fast the clock goes wrong at its first or last measurement, and how wrong that rate may be."""
        near = [one for one in self.points if 0 < abs(one.time - end.time) <= _WINDOW]
        far = max(near, key=lambda one: abs(one.time - end.time), default=None)
        if far is None:
            return 0.0, DRIFT
        rate = (far.offset - end.offset) / (far.time - end.time)
        doubt = (far.bound + end.bound) / abs(far.time - end.time) + _WANDER
        return (rate, doubt) if doubt < DRIFT and abs(rate) < DRIFT else (0.0, DRIFT)


class RunClocks:
    """The clocks of all nodes of a run, by start of the job and host; what was not measured is as it is."""

    def __init__(self, by_place: Mapping[tuple[str, str], NodeClock], references: Mapping[str, str]) -> None:
        self._by_place, self.references = dict(by_place), dict(references)

    def __bool__(self) -> bool:
        return bool(self._by_place)

    def of(self, attempt: str, host: str) -> NodeClock | None:
        """Return the clock of a host in a start of the job, None where nothing is known of it."""
        if self.references.get(attempt) == host:
            return NodeClock(())
        return self._by_place.get((attempt, host))

    def corrected(self, attempt: str, host: str, when: float) -> float:
        """Return a time of a host by the clock of the reference, as it is where nothing is known of that host."""
        clock = self.of(attempt, host)
        return when if clock is None else clock.corrected(when)


def clock_file(folder: Path, node: int, attempt: str) -> Path:
    """Return the file in which a node's clock is recorded, in a folder of step records."""
    return folder / f"node-{node:05d}.{attempt}{ENDING}"


def begin_clock_file(path: Path, **about: object) -> None:
    """Write the first line of a file, in place of one that is there."""
    path.unlink(missing_ok=True)
    append_json(path, {"format": FORMAT, "version": VERSION, **about})


def add_measured(path: Path, one: Measured, **more: object) -> None:
    """Add a measurement."""
    append_json(path, {"time": one.time, "offset": one.offset, "bound": one.bound, **more})


def read_clocks(folder: Path) -> RunClocks:
    """Return the clocks that were measured; files and lines that are damaged are passed over."""
    found: dict[tuple[str, str], list[Measured]] = {}
    references: dict[str, str] = {}
    try:
        paths = sorted(folder.glob(f"*{ENDING}"))
    except OSError:
        paths = []
    for path in paths:
        lines = read_json_lines(path)
        about = lines[0] if lines else {}
        if about.get("format") != FORMAT or about.get("version") != VERSION:
            continue
        attempt, host = str(about.get("attempt", "0")), str(about.get("host", ""))
        if points := [one for line in lines[1:] if (one := _measured(line))]:
            found.setdefault((attempt, host), []).extend(points)
            references[attempt] = str(about.get("reference", ""))
    return RunClocks({place: NodeClock(points) for place, points in found.items()}, references)


def _measured(line: Mapping[str, Any]) -> Measured | None:
    values = [line.get(name) for name in ("time", "offset", "bound")]
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
        return None
    time, offset, bound = (float(value) for value in values if value is not None)
    return Measured(time, offset, bound) if time > 0 and abs(offset) < _MOST and 0 <= bound < _MOST else None
