"""What the clock of a node is ahead, for many times at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hpcsynapse.report.sums import Floats
from hpcsynapse.runs.clocks import NodeClock, RunClocks, read_clocks
from hpcsynapse.runs.records import Part

Correct = Callable[[Part, Floats], Floats]


def correction_of(folder: Path, found: Sequence[Part]) -> Correct:
    """Return what brings times of parts of a folder of records to the first node's clock, where that was measured."""
    several = len({one.header.get("host") for one in found}) > 1
    clocks = read_clocks(folder) if several else RunClocks({}, {})

    def correct(part: Part, times: Floats) -> Floats:
        clock = clocks.of(str(part.header.get("attempt", "0")), str(part.header.get("host", "")))
        return times if clock is None or not clock.points or not len(times) else times - offsets(clock, times)

    return correct


def offsets(clock: NodeClock, times: Floats) -> Floats:
    """Return what a clock is ahead (s) at every one of its times."""
    first, last = float(times.min()), float(times.max())
    knots = [first, *(one.time for one in clock.points if first < one.time < last), last]
    return np.interp(times, knots, [clock.offset(knot) for knot in knots])
