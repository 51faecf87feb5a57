"""What the clock of a node is ahead, for many times at once."""

from __future__ import annotations

import numpy as np

from hpcsynapse.report.sums import Floats
from hpcsynapse.runs.clocks import NodeClock


def offsets(clock: NodeClock, times: Floats) -> Floats:
    """Return what a clock is ahead (s) at every one of its times."""
    first, last = float(times.min()), float(times.max())
    knots = [first, *(one.time for one in clock.points if first < one.time < last), last]
    return np.interp(times, knots, [clock.offset(knot) for knot in knots])
