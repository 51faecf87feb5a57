"""What the supervisor of a node writes for others: its locked log, and signs of life for the other nodes."""

from __future__ import annotations

import fcntl
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from hpcsynapse.files import write_atomic
from hpcsynapse.spec.names import job_ids


class NodeLog:
    """The log of a node, which its supervisor holds locked as long as it lives: nothing runs twice at a time.

    `busy` tells that another holds it, `locked` that this process does; neither where a file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self.busy = self.locked = False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.locked = True
        except BlockingIOError:
            self.busy = True
        except OSError:
            pass

    def say(self, text: str) -> None:
        """Write a message into the log and to whoever started this process."""
        self._file.write(f"hpcsynapse: {text}\n".encode(errors="surrogateescape"))
        self._file.flush()
        print(f"hpcsynapse: {text}", file=sys.stderr, flush=True)


class Beats:
    """Small files by which nodes tell one another that they live, are done, or that a rank has failed.

    They lie in a folder of their own for every run of a list, so that those of an earlier run tell nothing.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number
        self._last: dict[int, tuple[str, float]] = {}
        self.silent: list[int] = []

    @classmethod
    def of(cls, folder: Path, number: int) -> Self:
        """Return those of this run of the list in a folder."""
        names = ("HPCSYNAPSE_GREASY_RUN", *job_ids())
        key = next((value for name in names if (value := os.environ.get(name))), "none")
        place = folder / "beats" / re.sub(r"[^A-Za-z0-9._-]", "_", key)
        place.mkdir(parents=True, exist_ok=True)
        return cls(place, number)

    def beat(self, word: str) -> None:
        """Say that this node lives, by a word that differs from the last, or that it is done."""
        write_atomic(self._folder / str(self._number), word + "\n")

    def fail(self) -> None:
        """Tell all nodes that a rank has failed."""
        write_atomic(self._folder / "failed", "failed\n")

    def failed(self) -> bool:
        """Tell whether a rank of any node has failed."""
        return (self._folder / "failed").exists()

    def waits_for(self, others: Iterable[int], patience: float) -> bool:
        """Tell whether other nodes are at work; those not heard of for `patience` seconds are `silent`."""
        now, waiting = time.monotonic(), False
        for other in others:
            if other in self.silent or (word := self._word(other)) == "done":
                continue
            if other not in self._last or self._last[other][0] != word:
                self._last[other] = (word, now)
            if now - self._last[other][1] > patience:
                self.silent.append(other)
            else:
                waiting = True
        return waiting

    def _word(self, other: int) -> str:
        try:
            return (self._folder / str(other)).read_text().strip()
        except (OSError, ValueError):
            return ""
