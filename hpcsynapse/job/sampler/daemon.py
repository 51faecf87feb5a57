"""Records the load of a machine outside of jobs until it is told to end, one file a day."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from hpcsynapse.job.devices import installed
from hpcsynapse.job.sampler.watch import Sampler
from hpcsynapse.runs.telemetry import ENDING, file_name

_DAY = 86400.0  # seconds
_KEPT = 7  # files
_ENDS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def record(folder: Path, interval: float) -> None:
    """Record this machine into a folder until SIGTERM, SIGINT or SIGHUP; the files of a week are kept."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        while not _one_day(folder, interval):
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)


def _one_day(folder: Path, interval: float) -> bool:
    """Write the file of one day; tell whether the daemon was told to end."""
    started = time.strftime("%Y%m%d-%H%M%S")
    plan = {
        "run": "",
        "run_dir": "/",  # of no process
        "folder": str(folder),
        "attempt": f"{started}-{os.getpid()}",
        "node_rank": None,
        "nodes": 1,
        "interval": interval,
        "granted": installed(),
        "wrapper": os.getppid(),
        "jobs": [],
    }
    sampler = Sampler(plan)
    _tidy(folder)
    until = time.monotonic() + _DAY
    due = time.monotonic() + interval
    while time.monotonic() < until:
        if signal.sigtimedwait(_ENDS, max(0.0, due - time.monotonic())) is not None:
            sampler.take(last=True)
            return True
        if time.monotonic() >= due:
            sampler.take()
            due = max(due + interval, time.monotonic() + interval / 2)
    sampler.take(last=True)
    return False


def _tidy(folder: Path) -> None:
    """Remove this machine's oldest files."""
    own = file_name(socket.gethostname(), "").removesuffix(ENDING)
    for path in sorted(folder.glob(f"{own}*{ENDING}"))[:-_KEPT]:
        with suppress(OSError):
            path.unlink()
