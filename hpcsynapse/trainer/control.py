"""How ranks agree to stop: a small exchange about once a second, so that ordinary steps exchange nothing extra."""

from __future__ import annotations

import signal
import time
from types import FrameType

from hpcsynapse.loops.control_points import ControlPoints
from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.reporter import Reporter

_SECONDS = 1.0
_LOOKS_A_SECOND = 100  # at one file, by all ranks together
_SAVE, _STOP = 1, 2  # what ranks wish; who stops saves anyway


class Control:
    """Decides at control points, all ranks alike, whether the run goes on.

    A signal (SIGTERM, SIGUSR1) on any rank or the stop file seen by rank 0 only raises a flag; the flag travels by
    a maximum over ranks. So does rank 0's word that it is time for a checkpoint: then `save_is_due`.
    """

    def __init__(self, engine: Engine, reporter: Reporter) -> None:
        self._engine, self._reporter = engine, reporter
        self._agreed = 0.0
        self.saved(0.0)
        self._signal = 0
        self._points = ControlPoints(engine.rank, lambda values: engine.reduce(values, "max"))
        self._looked = time.monotonic()

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

    def wants_to_stop(self) -> bool:
        """Tell whether this rank knows of a wish to stop, looking for the file itself where no exchange tells of it.

        It looks once a second, of many ranks more rarely: all look at one file.
        """
        now = time.monotonic()
        if now - self._looked > max(_SECONDS, self._engine.size / _LOOKS_A_SECOND):
            self._looked = now
            self._reporter.look()
        return bool(self._signal) or self._reporter.stop_requested

    def stop_after_step(self) -> bool:
        """Count a step; at a control point exchange flags, and return whether all ranks stop now."""
        if not self._points.due():
            return False
        begin = time.monotonic()
        stop = self.agree()
        self._agreed = time.monotonic() - begin
        return stop

    def take_agreed(self) -> float:
        """Return the seconds that went into the exchange behind the last step, once; 0 where there was none."""
        seconds, self._agreed = self._agreed, 0.0
        return seconds

    def agree(self) -> bool:
        """Exchange flags now; every rank calls it at the same step."""
        wish = _STOP if self._signal or self._reporter.stop_requested else 0
        agreed = self._points.agree(wish or (_SAVE if self._is_time_to_save() else 0))
        self.save_is_due = agreed == _SAVE
        return agreed == _STOP

    def saved(self, save_every: float) -> None:
        """Note that a checkpoint was taken, or that steps begin; the next is due in `save_every` seconds, 0: never."""
        self._save_every, self._saved_at, self.save_is_due = save_every, time.monotonic(), False
        self._agreed = 0.0

    def _is_time_to_save(self) -> bool:
        passed = time.monotonic() - self._saved_at
        return self._engine.rank == 0 and 0 < self._save_every <= passed
