"""Sums over the ranks of a run for every step, taken up rank by rank."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.describe import RunDescription
from hpcsynapse.report.warmup import detected
from hpcsynapse.timing import PHASES, WARMUP

Records = npt.NDArray[np.void]
Floats = npt.NDArray[np.float64]
_TINY = 1e-6  # seconds
_EXCHANGE_WITHIN = 128  # steps


class Sums:
    """Sums over ranks for every step that the first rank recorded."""

    def __init__(self, first: Records) -> None:
        size = len(first)
        self.step = first["step"].astype(np.int64)
        self.epoch = first["epoch"].astype(np.int64)
        self.count = np.zeros(size, np.int64)
        self.slowest, self.samples, self.latest = np.zeros(size), np.zeros(size), np.zeros(size)
        self.total, self.loss, self.period = np.zeros(size), np.zeros(size), np.zeros(size)
        self.paused: Floats | None = None  # the longest pause before each step, by cause
        self.paused_mean = np.empty(0)
        self.phases = np.zeros((size, len(PHASES)))
        self.start = np.full(size, np.inf)
        self.warmup = np.zeros(size, np.bool_)
        self.origin_low, self.origin_high = np.full(size, 1 << 30), np.full(size, -1)
        changes = np.flatnonzero(self.epoch[1:] != self.epoch[:-1]) + 1
        self.epoch_first = np.concatenate(([0], changes)).astype(np.int64)
        self.epoch_last = np.concatenate((changes - 1, [size - 1])).astype(np.int64)
        self.extra: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def _places(
        self, steps: npt.NDArray[np.int64]
    ) -> tuple[slice | npt.NDArray[np.int64], slice | npt.NDArray[np.int64]]:
        """Return where a rank's records belong here, and which of its records those are."""
        common = min(len(steps), len(self.step))
        if np.array_equal(steps[:common], self.step[:common]):  # nearly always; the rest is a torn end
            self.extra = np.union1d(self.extra, steps[common:]) if len(steps) > common else self.extra
            return slice(0, common), slice(0, common)
        shared, here, there = np.intersect1d(self.step, steps, assume_unique=True, return_indices=True)
        self.extra = np.union1d(self.extra, np.setdiff1d(steps, shared, assume_unique=True))
        return here, there

    def add(
        self, records: Records, origin: npt.NDArray[np.int64], period: Floats, paused: Floats | None = None
    ) -> None:
        """Add one rank: its records, the start each is from, their periods and the pauses before them (periods.py)."""
        here, there = self._places(records["step"].astype(np.int64))
        mine, came = records[there], origin[there]
        self.count[here] += 1
        self.slowest[here] = np.maximum(self.slowest[here], mine["total"])
        self.total[here] += mine["total"]
        self.period[here] += period[there]
        passed = np.maximum(period[there], mine["total"])  # with what the rank did between the steps
        self.latest[here] = np.maximum(self.latest[here], passed - mine["communicate"])
        self.samples[here] += mine["samples"]
        self.loss[here] += mine["loss"]
        for column, phase in enumerate(PHASES):
            self.phases[here, column] += mine[phase]
        self.start[here] = np.minimum(self.start[here], mine["start"])
        self.warmup[here] |= (mine["flags"] & WARMUP) != 0
        self.origin_low[here] = np.minimum(self.origin_low[here], came)
        self.origin_high[here] = np.maximum(self.origin_high[here], came)
        if paused is not None:
            self._add_pauses(here, paused[there])

    def _add_pauses(self, here: slice | npt.NDArray[np.int64], paused: Floats) -> None:
        """Take up the pauses of a rank: ranks in lock-step lose the longest one, whoever made it.

        A rank that made a shorter one waits in its next exchange with the others, so that its period contains the rest:
        `periods_of` takes that out again.
        """
        if self.paused is None:
            self.paused = np.zeros((len(self.step), paused.shape[1]))
            self.paused_mean = np.zeros(len(self.step))
        self.paused[here] = np.maximum(self.paused[here], paused)
        self.paused_mean[here] += paused.sum(axis=1)

    def periods_of(self, ranks: int) -> Floats:
        """Return the period of every step, mean over ranks, without the waiting for ranks that paused."""
        period = self.period / ranks
        if self.paused is None:
            return period
        waited = self.paused.sum(axis=1) - self.paused_mean / ranks
        usual = float(np.median(period))
        for index in np.flatnonzero(waited > _TINY):
            # The exchange in which the others wait may come some steps later (local SGD).
            more = period[index : index + _EXCHANGE_WITHIN] - usual
            late = np.flatnonzero(more >= waited[index] / 2)
            if len(late):
                period[index + late[0]] -= min(waited[index], more[late[0]])
        return period

    def settle(self, whole: npt.NDArray[np.bool_], period: Floats) -> int:
        """Add the warm-up that is detected to the flagged one and return its steps; `whole` are the steps in use."""
        cold = np.flatnonzero(whole & ~self.warmup)
        count = detected(period[cold])
        self.warmup[cold[:count]] = True
        return count

    def epochs(self, about: RunDescription, whole: npt.NDArray[np.bool_], period: Floats) -> tuple[Floats, int | None]:
        """Return the times of epochs recorded in full (s) and the steps of a full epoch, where that is known.

        The periods of its steps, so without the pauses between epochs; epochs with warm-up steps are used only when
        there are no others.
        """
        sizes = self.epoch_last - self.epoch_first + 1
        length = about.steps_per_epoch
        if length is None and len(sizes) > 1:  # an epoch is at its end where the next one begins
            length = int(sizes[:-1].max())
        if length is None and about.finished_whole and self.step[0] == 0:
            length = int(sizes[-1])
        gaps = np.concatenate(([0], np.cumsum(~whole)))
        complete = gaps[self.epoch_last + 1] == gaps[self.epoch_first]
        complete &= self.origin_low[self.epoch_first] == self.origin_high[self.epoch_last]  # no restart inside
        warm = np.concatenate(([0], np.cumsum(self.warmup)))
        cold = warm[self.epoch_last + 1] == warm[self.epoch_first]
        full = complete & (sizes == length) if length else np.zeros(len(sizes), np.bool_)
        times = np.add.reduceat(period, self.epoch_first)
        return times[full & cold if (full & cold).any() else full], length
