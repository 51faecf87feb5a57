"""What a trace is made of, and what writes it. All times are nanoseconds since the origin of the trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Nanoseconds = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Thread:
    """A line of slices within a process of the trace, which stands for a node or for the run as a whole."""

    process: int
    number: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """Slices of a thread by time, which do not overlap: arrays of one length.

    `name` is a place in `names`, or -1 for steps, whose first and last number are in `step` and `last`. `bounds` are
    where the phases of each begin and end, shape (slices, phases + 1), and `drawn` which phases there are, shape
    (slices, phases). `told` are numbers of the steps by name; those that are not finite are left out.
    """

    begin: Nanoseconds
    end: Nanoseconds
    name: npt.NDArray[np.int64]
    names: Sequence[str]
    step: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    last: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    phases: Sequence[str] = ()
    bounds: Nanoseconds = field(default_factory=lambda: np.empty((0, 1), np.int64))
    drawn: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty((0, 0), np.bool_))
    told: dict[str, Floats] = field(default_factory=dict)


class TraceWriter(Protocol):
    """Writes a trace event by event; `count` is how many there are so far."""

    count: int

    def process(self, number: int, name: str) -> None:
        """Name a process."""

    def thread(self, thread: Thread) -> None:
        """Name a thread."""

    def slices(self, thread: Thread, slices: Slices) -> None:
        """Write slices, with their phases within them."""

    def nested(self, thread: Thread, slices: Sequence[tuple[int, int, str]]) -> None:
        """Write slices (begin, end, name), by begin, each within those around it, outer ones first."""

    def instant(self, thread: Thread, name: str, when: int, everywhere: bool = False) -> None:
        """Mark a point in time on a thread, or across all of them."""

    def counter(self, process: int, name: str, unit: str, when: Nanoseconds, values: Floats) -> None:
        """Write the values of a quantity of a process by time."""

    def finish(self) -> None:
        """Write what a trace ends with."""
