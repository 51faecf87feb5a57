"""Ends a rank that makes no progress: no wait is without limit, whatever library it happens in."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: trying again may help
_GRACE = 30.0


class Watchdog(threading.Thread):
    """A thread that ends the process when `tick` is not called for the limit (seconds) that is in force.

    It writes what was waited for and all stacks to stderr first. Should a library hold Python's lock, in which case
    this thread cannot run, faulthandler's own thread ends the process _GRACE seconds later.
    """

    def __init__(self, limit: float, doing: str, on_expiry: Callable[[str], None] | None = None) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._limit, self._doing, self._on_expiry = limit, doing, on_expiry
        self._last = time.monotonic()
        self._done = threading.Event()

    def expect(self, doing: str, limit: float) -> None:
        """From now on allow `limit` seconds between signs of progress in what is being done."""
        self._last, self._doing, self._limit = time.monotonic(), doing, limit

    def tick(self) -> None:
        """Note progress."""
        self._last = time.monotonic()

    def stop(self) -> None:
        """End the watch."""
        self._done.set()
        faulthandler.cancel_dump_traceback_later()

    def run(self) -> None:
        """Look several times within the limit."""
        while not self._done.wait(min(1.0, self._limit / 10)):
            faulthandler.dump_traceback_later(self._limit + _GRACE, exit=True)
            if time.monotonic() - self._last > self._limit and not self._done.is_set():
                self._expire()

    def _expire(self) -> None:
        reason = f"no progress for {self._limit:g} s while {self._doing}"
        print(f"hpcsynapse: {reason}; ending this rank. Where it waits:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        if self._on_expiry is not None:  # it writes to a file system that may itself be what hangs
            told = threading.Thread(target=self._on_expiry, args=(reason,), daemon=True)
            told.start()
            told.join(5.0)
        os._exit(EXIT_CODE)
