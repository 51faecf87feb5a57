"""Keeps faults of the recording from the program: the first is told in the rank's log, and ends the recording."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any


class Guard:
    """Whether things are recorded, and why no longer; `on_end` is called once with the reason."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self.on = True
        self._on_end = on_end
        self.thread = threading.get_ident()  # the one that began, whose doings are recorded

    @property
    def here(self) -> bool:
        """Whether this thread's doings are recorded: those of the thread that began."""
        return self.on and threading.get_ident() == self.thread

    def end(self, reason: str) -> None:
        """Record nothing more."""
        if self.on:
            self.on = False
            self._on_end(reason)

    def forked(self) -> None:
        """This process is a child of the one that records, and no rank."""
        self.on = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the function returns; None when it failed, which ends the recording, and when that has ended."""
        if not self.on:
            return None
        try:
            return function(*arguments)
        except Exception as fault:
            self.failed(fault)
            return None

    def failed(self, fault: Exception) -> None:
        """The recording itself has failed: it ends."""
        where: Any | None = fault.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f" ({where.tb_frame.f_code.co_filename}:{where.tb_lineno})" if where is not None else ""
        self.end(f"a fault of the recording: {fault!r}{place}")


def tell(text: str) -> None:
    """Write one line into the rank's log."""
    try:
        print(f"hpcsynapse: {text}", file=sys.__stderr__, flush=True)
    except (OSError, ValueError, AttributeError):  # a program may have closed it
        pass
