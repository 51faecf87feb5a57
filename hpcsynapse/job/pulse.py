"""Signs of life from a program to the wrapper around it, and time without what a process was suspended for."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from typing import Any

VARIABLE = "HPCSYNAPSE_PULSE"  # the number of the open pipe that signs of life are written into


class Awake:
    """Seconds in which this process ran, told by whoever looks at least every `interval` seconds.

    A longer gap between two looks is no time that anybody waited: the process was stopped meanwhile (SIGSTOP, `scontrol
    suspend`), together with its peers, or could not run. It counts as twice the interval.
    """

    def __init__(self, interval: float) -> None:
        self.interval, self.passed = interval, 0.0
        self._last = time.monotonic()

    def look(self) -> float:
        """Return the seconds that have passed."""
        now = time.monotonic()
        self.passed += min(now - self._last, 2 * self.interval)
        self._last = now
        return self.passed


class Pulse:
    """The writing end, in the program; without a wrapper that listens, nothing is written."""

    def __init__(self) -> None:
        self._pipe: int | None = None
        with suppress(KeyError, ValueError, OSError):
            pipe = int(os.environ[VARIABLE])
            fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_NONBLOCK)
            self._pipe = pipe

    def beat(self, **facts: Any) -> None:
        """Give a sign of life with what is to be known: `limit` (s), or `reason` and `waits` as the last words."""
        if self._pipe is not None:
            with suppress(OSError):  # the wrapper is gone, or stopped
                os.write(self._pipe, json.dumps(facts).encode() + b"\n")


class Listener:
    """The reading end, in the wrapper; `facts` is all that was told."""

    def __init__(self) -> None:
        self._pipe, self.writer = os.pipe()
        os.set_blocking(self._pipe, False)
        self.facts: dict[str, Any] = {}
        self._rest = b""

    def begun(self) -> None:
        """Close the writing end here, once the program has it."""
        os.close(self.writer)

    def close(self) -> None:
        """Close the reading end."""
        os.close(self._pipe)

    def listen(self) -> bool:
        """Read what has come; tell whether there was a sign of life."""
        data = b""
        with suppress(BlockingIOError):
            while part := os.read(self._pipe, 65536):
                data += part
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            with suppress(ValueError, TypeError):
                self.facts |= json.loads(line)
        return bool(data)
