"""Logs of a run: which there are, and any stretch of one, so that a page can follow it from where it has read to."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from hpcsynapse.errors import RunNotFoundError
from hpcsynapse.serve.detail import read_inside
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.schema import Limits

MOST = 1 << 18  # bytes of one answer
_LOG = re.compile(r"job\.log|(?:rank|ps)-\d{5,7}\.log")
Offset = Annotated[int, Limits(0, 10**15)]
Length = Annotated[int, Limits(1, MOST)]


@dataclass(frozen=True, slots=True)
class Log:
    """A log: its name, what it is of, its bytes, and when something was written to it last (Unix time)."""

    log: str
    title: str
    size: int
    time: float


@dataclass(frozen=True, slots=True)
class LogText:
    """A stretch of a log, `begin` to `end` in bytes, of `size`; bytes that are no text are shown as U+FFFD."""

    log: str
    begin: int
    end: int
    size: int
    text: str


def logs(index: RunIndex, name: str) -> list[Log]:
    """Return the logs of a run: of its job script, then of its ranks, then of parameter servers."""
    found = []
    with suppress(OSError), os.scandir(index.find(name).logs) as files:
        for file in files:
            with suppress(OSError):
                about = file.stat(follow_symlinks=False)
                if _LOG.fullmatch(file.name) and stat.S_ISREG(about.st_mode):
                    found.append(Log(file.name[:-4], _title(file.name), about.st_size, about.st_mtime))
    return sorted(found, key=lambda one: (one.log != "job", one.log.startswith("ps"), one.log))


def log(index: RunIndex, name: str, log: str, begin: Offset | None = None, length: Length = 1 << 16) -> LogText:
    """Return a stretch of a log from byte `begin` on, or its end: whole lines where it has some."""
    run = index.find(name)
    if not _LOG.fullmatch(f"{log}.log"):
        raise RunNotFoundError(f"{log!r} is not the name of a log: job, rank-00000, ps-00000")
    try:
        size = read_inside(run, "logs", f"{log}.log", 0, 0)[1]
        first = max(0, size - length) if begin is None else min(begin, size)
        data, size = read_inside(run, "logs", f"{log}.log", first, length)
    except OSError:
        raise RunNotFoundError(f"run {name} has no log {log}") from None
    if begin is None and first and (cut := data.find(b"\n") + 1):
        first, data = first + cut, data[cut:]
    data = data[: _whole_letters(data)]
    return LogText(log, first, first + len(data), size, data.decode("utf-8", "replace"))


def _whole_letters(data: bytes) -> int:
    """Return how many bytes there are before a letter that is cut at the end, which the next answer begins with."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if wanted > back and len(data) > back else len(data)
        if byte < 0x80:
            break
    return len(data)


def _title(file: str) -> str:
    kind, _, number = file[:-4].partition("-")
    return {"job": "job script", "rank": f"rank {int(number or 0)}", "ps": f"parameter server {int(number or 0)}"}[kind]
