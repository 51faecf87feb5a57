"""A run from its first step to its end, by the clock of each rank."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.periods import OwnTime
from hpcsynapse.timing import CAUSES


class Whole:
    """What is known of the whole of a run, taken up rank by rank; times in seconds.

    `longest` is the time from a rank's first step to the end of its last step or pause, of the rank with most;
    `after` the longest pauses behind the last step, by cause; `first_step` when the lowest rank began its first step in
    the newest start of the job (Unix time); `starts` how often the job was started, or a rank within it; `unusable` the
    numbers of steps without a duration, by rank.
    """

    def __init__(self, starts: int) -> None:
        self.starts = starts
        self.first_step = np.inf
        self.after = np.zeros(len(CAUSES))
        self.durations: list[float] = []
        self.unusable: list[npt.NDArray[np.uint32]] = []
        self._lowest = -1

    @property
    def longest(self) -> float:
        """The time of the rank that took longest."""
        return max(self.durations, default=0.0)

    @property
    def mean(self) -> float:
        """The time of a rank, mean over ranks."""
        return sum(self.durations) / len(self.durations) if self.durations else 0.0

    @property
    def idle(self) -> float:
        """How long a rank had ended before the last one, mean over ranks."""
        return self.longest - self.mean

    def add(self, rank: int, own: OwnTime) -> None:
        """Add a rank."""
        if len(own.unusable):
            self.unusable.append(own.unusable)
        if not len(own.records):
            return
        self.durations.append(own.last - own.first)
        self.after = np.maximum(self.after, own.after)
        self.starts = max(self.starts, own.lives)
        if self._lowest < 0 or rank < self._lowest:
            self._lowest = rank
            self.first_step = float(own.records["start"][own.origin == own.origin.max()][0])
