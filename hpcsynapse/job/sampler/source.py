"""What every source of a node's telemetry has in common: columns, values, and counters that may start again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hpcsynapse.runs.telemetry import Column

_WRAP = 1 << 64
_MOST = 1 << 60  # that a counter can grow by between two looks
Values = list[float | None]


class Source(Protocol):
    """One source of values; `missing` says what it cannot measure, and why, `told` what else readers should know."""

    missing: dict[str, str]
    told: dict[str, object]

    @property
    def columns(self) -> Sequence[Column]:
        """The columns of its values."""
        ...

    def read(self, seconds: float) -> Values:
        """Return a value for every column, of the `seconds` since the last call; None is not known."""
        ...


class Increase:
    """By how much counters have grown since they were last seen.

    One that went over the end of 64 bits is understood; after a start from 0 its growth is not known, once.
    """

    def __init__(self) -> None:
        self._before: tuple[int | None, ...] = ()

    def of(self, now: Sequence[int | None]) -> Values:
        """Return the growth of every counter, None where there is no number before."""
        before, self._before = self._before, tuple(now)
        if len(before) != len(now):
            return [None] * len(now)
        return [_growth(old, new) for old, new in zip(before, now, strict=True)]


def _growth(old: int | None, new: int | None) -> float | None:
    if old is None or new is None:
        return None
    grown = (new - old) % _WRAP
    return float(grown) if grown < _MOST else None


class KeptOpen:
    """A file of the kernel's that is opened once and read anew each time."""

    def __init__(self, path: Path | str, size: int = 65536) -> None:
        self._size = size
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    @property
    def there(self) -> bool:
        """Whether the file could be opened."""
        return self._file >= 0

    def text(self) -> str:
        """Return what it holds now, empty where it cannot be read."""
        try:
            return os.pread(self._file, self._size, 0).decode("utf-8", "replace") if self.there else ""
        except OSError:
            return ""

    def number(self) -> int | None:
        """Return the whole number that it holds now; None for anything else."""
        text = self.text().strip()
        return int(text) if text.isdecimal() else None

    def fields(self) -> dict[str, int]:
        """Return the lines of a name and a number (the file of a control group, /proc/meminfo)."""
        found = {}
        for line in self.text().splitlines():
            words = line.split(None, 2)
            if len(words) > 1 and words[1].isdecimal():
                found[words[0].rstrip(":")] = int(words[1])
        return found
