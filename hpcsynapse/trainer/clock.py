"""The phases of a step, timed where the work runs; every step becomes one record."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hpcsynapse.timing import PHASES, StepRecorder
from hpcsynapse.trainer.traffic import Traffic


@dataclass(slots=True)
class StepResult:
    """What a strategy tells about one step: the loss (a scalar tensor), samples taken on this rank, staleness.

    `advance` is by how many steps the run has gone on: more than one where others went on without this rank, none where
    they stopped.
    """

    loss: Tensor
    samples: int
    staleness: int = -1
    advance: int = 1


class StepClock:
    """Times steps whose work is done when a call returns: the CPU.

    A stamp is a point in time that `mark` accepts later; on the CPU it is a number of seconds.
    """

    def __init__(self, recorder: StepRecorder, traffic: Traffic | None = None) -> None:
        self._recorder, self._traffic = recorder, traffic
        self._phases = dict.fromkeys(PHASES, 0.0)
        self._wall = time.time() - time.perf_counter()
        self._begin = self._last = time.perf_counter()
        self.loss = float("nan")

    def begin(self, agreed: float = 0.0) -> None:
        """Start a step: its data phase begins; `agreed` seconds before it went into an exchange with other ranks."""
        self._last = time.perf_counter()
        self._begin = self._last - agreed
        self._phases["communicate"] += agreed

    def stamp(self) -> Any:
        """Return this moment."""
        return time.perf_counter()

    def mark(self, phase: str, stamp: Any = None) -> None:
        """Give the time from the last mark to the stamp (or now) to a phase."""
        now = time.perf_counter() if stamp is None else stamp
        self._phases[phase] += now - self._last
        self._last = now

    def end(self, step: int, epoch: int, result: StepResult) -> None:
        """Write the record of the step; `loss` is then the newest loss known."""
        self.loss = result.loss.item()
        phases = self._phases
        total = time.perf_counter() - self._begin
        sent, received = self.take_traffic()
        self._recorder.write(
            step,
            epoch,
            self._begin + self._wall,
            phases["data"],
            phases["forward"],
            phases["backward"],
            phases["communicate"],
            phases["update"],
            total,
            result.samples,
            self.loss,
            result.staleness,
            sent,
            received,
        )
        for phase in phases:
            phases[phase] = 0.0

    def take_traffic(self) -> tuple[int, int]:
        """Return bytes sent and received since the last look, (0, 0) when it is too early for another one."""
        return (0, 0) if self._traffic is None else self._traffic.take()

    def pause(self, cause: str) -> AbstractContextManager[None]:
        """Mark what the training stops for, once all steps begun are done; the cause is one of timing.CAUSES."""
        self.drain()
        return self._recorder.pause(cause)

    def drain(self) -> None:
        """Wait for all steps begun and write their records."""
        self._recorder.flush()
