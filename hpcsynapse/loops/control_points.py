"""Points at which all ranks agree on something, about once a second, so that ordinary steps exchange nothing extra."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

_LONGEST = 1000  # steps
_SECONDS = 1.0


class ControlPoints:
    """Counts steps alike on all ranks up to the next exchange; in it rank 0 says after how many the next one comes.

    `largest` returns, for a few numbers of every rank, the largest of all ranks.
    """

    def __init__(self, rank: int, largest: Callable[[Sequence[float]], Sequence[float]]) -> None:
        self._rank, self._largest = rank, largest
        self._interval, self._left = 1, 1
        self._last = time.monotonic()

    def due(self) -> bool:
        """Count a step; return whether an exchange is due after it, on all ranks at the same step."""
        self._left -= 1
        return self._left <= 0

    def agree(self, wish: int) -> int:
        """Return the largest wish of all ranks, 0 where none has one; every rank calls this at the same step."""
        chosen = float(self._choose()) if self._rank == 0 else 0.0
        wished, interval = self._largest([float(wish), chosen])
        self._interval = self._left = int(interval)
        return int(wished)

    def _choose(self) -> int:
        now = time.monotonic()
        passed = self._interval - max(self._left, 0)
        if passed < 1:
            return self._interval
        per_step = (now - self._last) / passed
        self._last = now
        # A growth of at most 8 forgives a first step that was timed too short.
        return max(1, min(_LONGEST, 8 * self._interval, round(_SECONDS / max(per_step, 1e-9))))
