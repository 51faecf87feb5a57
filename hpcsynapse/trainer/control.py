"""How ranks agree to stop: a small exchange about once a second, so that ordinary steps exchange nothing extra."""

from __future__ import annotations

import signal
import time
from types import FrameType

from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.reporter import Reporter

_LONGEST = 1000  # steps
_SECONDS = 1.0


class Control:
    """Decides at control points, all ranks alike, whether the run goes on.

    A signal (SIGTERM, SIGUSR1) on any rank or the stop file seen by rank 0 only raises a flag; the flag travels by
    a maximum over ranks. In the same exchange rank 0 says after how many steps the next point comes.
    """

    def __init__(self, engine: Engine, reporter: Reporter) -> None:
        self._engine, self._reporter = engine, reporter
        self._signal = 0
        self._interval, self._left = 1, 1
        self._last = time.monotonic()

    def install(self) -> None:
        """Take over SIGTERM and SIGUSR1."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signal = number

    @property
    def reason(self) -> str:
        """Why this rank wants to stop, for people; empty where another one does."""
        if self._signal:
            return f"{signal.Signals(self._signal).name} received by rank {self._engine.rank}"
        return "stop requested" if self._reporter.stop_requested else "stop requested on another rank"

    def stop_after_step(self) -> bool:
        """Count a step; at a control point exchange flags, and return whether all ranks stop now."""
        self._left -= 1
        return self._left <= 0 and self.agree()

    def agree(self) -> bool:
        """Exchange flags now; every rank calls it at the same step."""
        wants = float(bool(self._signal) or self._reporter.stop_requested)
        chosen = float(self._choose()) if self._engine.rank == 0 else 0.0
        stop, interval = self._engine.reduce([wants, chosen], "max")
        self._interval = self._left = int(interval)
        return bool(stop)

    def _choose(self) -> int:
        now = time.monotonic()
        passed = self._interval - max(self._left, 0)
        if passed < 1:
            return self._interval
        per_step = (now - self._last) / passed
        self._last = now
        # A growth of at most 8 forgives a first step that was timed too short.
        return max(1, min(_LONGEST, 8 * self._interval, round(_SECONDS / max(per_step, 1e-9))))
