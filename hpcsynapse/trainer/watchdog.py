"""Ends a rank that makes no progress: no wait is without limit, whatever library it happens in."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hpcsynapse.job.program import NO_PROGRESS
from hpcsynapse.job.pulse import Awake, Pulse
from hpcsynapse.job.supervise import Above

# Modules whose calls wait for other ranks: backward does where gradients are averaged meanwhile.
_EXCHANGES = (
    "torch.distributed",
    "torch.autograd",
    "horovod",
    "hpcsynapse.trainer.engines",
    "hpcsynapse.trainer.parameter_server",
    "hpcsynapse.trainer.dual.exchange",
)


class Watchdog(threading.Thread):
    """A thread that ends the process when `tick` is not called for the limit (seconds) that is in force.

    It writes what was waited for and all stacks to stderr first. Time for which the process was suspended does not
    count. Should a library hold Python's lock, in which case this thread cannot run, the wrapper around the rank misses
    its signs of life (`job.program`).
    """

    def __init__(self, limit: float, doing: str, on_expiry: Callable[[str], None] | None = None) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._limit, self._doing, self._on_expiry = limit, doing, on_expiry
        self._awake, self._last = Awake(1.0), 0.0
        self._pulse, self._above = Pulse(), Above()
        self._done = threading.Event()
        with suppress(ValueError, AttributeError):  # only the main thread may, in programs with a stderr
            faulthandler.register(signal.SIGQUIT, all_threads=True, chain=True)

    def expect(self, doing: str, limit: float) -> None:
        """From now on allow `limit` seconds between signs of progress in what is being done."""
        self._last, self._doing, self._limit = self._awake.passed, doing, limit

    def tick(self) -> None:
        """Note progress."""
        self._last = self._awake.passed

    def stop(self) -> None:
        """End the watch."""
        self._done.set()

    def run(self) -> None:
        """Look several times within the limit."""
        while not self._done.wait(min(1.0, self._limit / 10)):
            self._awake.interval = min(1.0, self._limit / 10)
            self._pulse.beat(limit=self._limit)
            now = self._awake.look()
            self._above.keep_going(now, self._limit)
            if now - self._last > self._limit and not self._done.is_set():
                self._expire()

    def _expire(self) -> None:
        reason = f"no progress for {self._limit:g} s while {self._doing}"
        where, waits = _place(sys._current_frames().get(threading.main_thread().ident or 0))
        reason += f", {where}"
        self._pulse.beat(reason=reason, waits=waits)
        print(f"hpcsynapse: {reason}; ending this rank. Where it waits:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        if self._on_expiry is not None:  # it writes to a file system that may itself be what hangs
            told = threading.Thread(target=self._on_expiry, args=(reason,), daemon=True)
            told.start()
            told.join(5.0)
        os._exit(NO_PROGRESS)


def _place(frame: FrameType | None) -> tuple[str, bool]:
    """Return where a thread is, in words, and whether it waits there for other ranks."""
    if frame is None:
        return "at its end", False
    module = str(frame.f_globals.get("__name__", ""))
    if any(module == name or module.startswith(f"{name}.") for name in _EXCHANGES):
        return "waiting for other ranks", True
    return f"in {frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})", False
