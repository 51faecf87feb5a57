"""Whether a loop is to save and end: after `hpcsynapse stop`, a signal before the time limit, or one from the queue."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hpcsynapse.files import is_there, write_json
from hpcsynapse.loops.control_points import ControlPoints
from hpcsynapse.loops.ranks import Ranks, ranks_of_program
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopping:
    """Hears wishes to stop on every rank, and lets all ranks agree on one about once a second.

    `run` is the directory whose stop file rank 0 looks for; without one only signals are heard.
    """

    def __init__(self, ranks: Ranks, run: RunDirectory | None) -> None:
        self._run, self._rank = run, ranks.rank
        self._points = ControlPoints(ranks.rank, ranks.largest)
        self._signal = 0
        self._stops = False

    def hear(self) -> None:
        """Take SIGTERM and SIGUSR1; what the program has set for them is still called."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            before = signal.getsignal(number)

            def note(number: int, frame: FrameType | None, before: object = before) -> None:
                self._signal = number
                if callable(before):
                    before(number, frame)

            signal.signal(number, note)

    def after_step(self) -> bool:
        """Count a step; return whether all ranks stop after it. Every rank calls this after every step."""
        if not self._stops and self._points.due():
            self._stops = bool(self._points.agree(self._wishes()))
            if self._stops and self._rank == 0:
                self._tell()
        return self._stops

    def _wishes(self) -> bool:
        return bool(self._signal) or self._file_is_there()

    def _file_is_there(self) -> bool:
        return self._rank == 0 and self._run is not None and is_there(self._run.stop)

    def _tell(self) -> None:
        """Leave word that the program does not end because it is done."""
        reason = "stop requested"
        if not self._file_is_there():
            where = f"received by rank {self._rank}" if self._signal else "received by another rank"
            reason = f"{signal.Signals(self._signal).name if self._signal else 'a signal'} {where}"
        print(f"hpcsynapse: {reason}; stopping after this step", file=sys.stderr, flush=True)
        if self._run is not None:
            attempt = os.environ.get("HPCSYNAPSE_ATTEMPT", "0")
            with suppress(OSError):
                told = {"state": RunState.STOPPED, "reason": reason, "time": time.time(), "attempt": attempt}
                write_json(self._run.status, told)
                self._run.append_history(RunState.STOPPED, reason)


_stopping: Stopping | None = None


def should_stop() -> bool:
    """Return whether the loop is to save and end now; every rank calls this once after every step.

    True after `hpcsynapse stop`, and after SIGTERM or SIGUSR1 on any rank (`--signal USR1@120`), at the same step on
    all ranks. Ordinary steps exchange nothing: ranks agree about once a second, by torch.distributed, Horovod or
    mpi4py, whichever brought them together before the first call. Without any of them each rank answers for itself.
    """
    global _stopping
    if _stopping is None:
        folder = os.environ.get("HPCSYNAPSE_RUN_DIR")
        _stopping = Stopping(ranks_of_program(), RunDirectory(Path(folder)) if folder else None)
        _stopping.hear()
    return _stopping.after_step()
