"""The times of all nodes of a run on one clock: as they were measured, else by the ends of collective exchanges.

Ranks that wait for one another leave an exchange at nearly one moment: by how much they say that at different times is
what their clocks are apart, and how much that varies from step to step is what it may be wrong by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.describe import ASYNCHRONOUS
from hpcsynapse.report.loading import DTYPE
from hpcsynapse.report.offsets import offsets
from hpcsynapse.report.sums import Floats, Records
from hpcsynapse.runs.clocks import Measured, NodeClock, RunClocks, read_clocks
from hpcsynapse.runs.records import Part
from hpcsynapse.timing import PAUSE

_WINDOW = 10.0  # seconds of a run from which one point is taken
_FEWEST = 16  # steps of a window, of which the quicker half counts
_LEAST_BOUND = 2e-6  # s: what a Unix time in 64 bits and a duration in 32 can tell
_LATEST = 4e9
_NAMED = 5  # hosts
_PHASES_BEFORE_END = ("data", "forward", "backward", "communicate")


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of the nodes of a run, and by which way they are known: one, measured, exchanges or none."""

    way: str
    clocks: RunClocks

    def corrected(self, header: Mapping[str, Any], times: Floats) -> Floats:
        """Return times that the host of a record file or of telemetry wrote, by the clock of the first node."""
        clock = self._of(header)
        return times if clock is None or not len(times) else times - offsets(clock, times)

    def corrected_time(self, attempt: str, host: str, when: float) -> float:
        """Return one time that a host wrote."""
        return self.clocks.corrected(attempt, host, when)

    def bound(self, header: Mapping[str, Any], times: Floats) -> float | None:
        """Return by how much (s) the corrected times of a host may be wrong; None where they are not corrected."""
        clock = self._of(header)
        if self.way == "none" or clock is None or not len(times):
            return None
        first, last = float(times.min()), float(times.max())
        knots = [first, *(one.time for one in clock.points if first < one.time < last), last]
        return max(clock.bound(when) for when in (*knots, *((begin + end) / 2 for begin, end in pairwise(knots))))

    def remark(self, header: Mapping[str, Any], first: float, last: float) -> str:
        """Return what stands behind the name of a node: by how much its times may be wrong, where that is known."""
        if self.way in ("one", "none") or self._is_reference(header):
            return ""
        bound = self.bound(header, np.array([first, last]))
        return ", own clock" if bound is None else f", within {_short(bound)}"

    def told(self, headers: Sequence[Mapping[str, Any]], first: float, last: float) -> str:
        """Return in words how the times of nodes were brought together, and which are not."""
        bounds = {str(one.get("host", "")): self.bound(one, np.array([first, last])) for one in headers}
        known = [bound for bound in bounds.values() if bound is not None]
        left = [host for host, bound in bounds.items() if bound is None]
        within = f" within {_short(max(known))}" if known else ""
        text = {
            "one": "the clock of one host",
            "measured": f"clocks of nodes are corrected{within}, as measured while the run went on",
            "exchanges": f"clocks of nodes are corrected{within}, by the ends of exchanges",
            "none": "every node's own clock, not corrected",
        }[self.way]
        named = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
        return f"{text}; {named} {'is' if len(left) == 1 else 'are'} not" if known and left else text

    def _is_reference(self, header: Mapping[str, Any]) -> bool:
        return self.clocks.references.get(str(header.get("attempt", "0"))) == header.get("host")

    def _of(self, header: Mapping[str, Any]) -> NodeClock | None:
        return self.clocks.of(str(header.get("attempt", "0")), str(header.get("host", "")))


def clocks_of(folder: Path, found: Sequence[Part]) -> Clocks:
    """Return the clocks of the nodes that wrote these parts of a folder of records."""
    if len({one.header.get("host") for one in found}) < 2:
        return Clocks("one", RunClocks({}, {}))
    if known := read_clocks(folder):
        return Clocks("measured", known)
    known = _by_exchanges(found)
    return Clocks("exchanges" if known else "none", known)


def _short(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def _by_exchanges(found: Sequence[Part]) -> RunClocks:
    """Return the clocks of hosts by the steps of their first ranks; of asynchronous ranks there are none."""
    firsts: dict[str, dict[str, Part]] = {}
    for one in sorted(found, key=lambda part: (part.header.get("node_rank", 0), part.header["rank"])):
        if one.header.get("role", "worker") == "worker" and one.header.get("strategy") not in ASYNCHRONOUS:
            hosts = firsts.setdefault(str(one.header.get("attempt", "0")), {})
            hosts.setdefault(str(one.header.get("host", "")), one)
    clocks, references = {}, {}
    for attempt, hosts in firsts.items():
        (reference, first), *others = hosts.items()
        ends = _ends(first)
        for host, part in others:
            if points := _compared(ends, _ends(part)):
                clocks[attempt, host] = NodeClock(points)
                references[attempt] = reference
    return RunClocks(clocks, references)


def _ends(part: Part) -> Records:
    """Return steps with an exchange: their numbers, when the exchange ended (Unix time), and how long it took."""
    records = np.frombuffer(part.read(), DTYPE)
    records = records[(records["flags"] & PAUSE == 0) & (records["start"] > 0) & (records["start"] < _LATEST)]
    records = records[np.isfinite(records["communicate"]) & (records["communicate"] > 0)]
    _, firsts = np.unique(records["step"], return_index=True)
    records = records[firsts]
    found: Records = np.empty(len(records), [("step", "<u4"), ("end", "<f8"), ("took", "<f8")])
    found["step"], found["took"] = records["step"], records["communicate"]
    found["end"] = records["start"] + sum(records[phase].astype(np.float64) for phase in _PHASES_BEFORE_END)
    known: Records = found[np.isfinite(found["end"])]
    return known


def _compared(reference: Records, own: Records) -> list[Measured]:
    """Return what a clock was ahead, window by window, from the quicker half of the exchanges that two ranks share."""
    _, here, there = np.intersect1d(reference["step"], own["step"], assume_unique=True, return_indices=True)
    reference, own = reference[here], own[there]
    if len(own) < _FEWEST:
        return []
    took = np.minimum(reference["took"], own["took"])  # of who came last: what the exchange itself took
    apart = own["end"] - reference["end"]
    found = []
    for window in _windows(own["end"]):
        quick = window[took[window] <= np.median(took[window])]
        times, differences = own["end"][quick], apart[quick]
        rate, middle = _line(times, differences)
        rest = differences - middle - rate * (times - np.median(times))
        bound = max(_LEAST_BOUND, float(np.quantile(np.abs(rest), 0.9)))
        found.append(Measured(float(np.median(times)), middle, bound))
    return found


def _windows(times: Floats) -> list[npt.NDArray[np.int64]]:
    """Return the places of steps in equal stretches of time, each with enough steps."""
    count = max(1, min(max(2, int((times.max() - times.min()) / _WINDOW)), len(times) // _FEWEST))
    return [part for part in np.array_split(np.argsort(times, kind="stable"), count) if len(part) >= _FEWEST]


def _line(times: Floats, values: Floats) -> tuple[float, float]:
    """Return rate and value at the middle of a line through points, by the medians of their thirds."""
    order = np.argsort(times, kind="stable")
    first, _, last = np.array_split(order, 3)
    span = float(np.median(times[last]) - np.median(times[first]))
    rate = float(np.median(values[last]) - np.median(values[first])) / span if span > 0 else 0.0
    return rate, float(np.median(values - rate * (times - np.median(times))))
