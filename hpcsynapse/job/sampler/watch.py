"""Samples one node until the ranks on it have ended: `python -m hpcsynapse.job sampler PLAN`, PLAN being JSON.

It has the lowest priority, a limit on its CPU time, and a budget: one that costs more doubles its interval. Signals of
the queue are for the ranks; SIGTERM says that a rank's program has ended, so that a look is worth while. It ends with
the last program of the run on this node, whoever ends it, and takes nothing along.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcsynapse.job import supervise
from hpcsynapse.job.sampler.cgroup import ControlGroup
from hpcsynapse.job.sampler.gpus import Gpus
from hpcsynapse.job.sampler.host import Host
from hpcsynapse.job.sampler.network import Interfaces, Ports
from hpcsynapse.job.sampler.processes import Processes
from hpcsynapse.job.sampler.source import Source, Values
from hpcsynapse.job.sampler.steps import Steps
from hpcsynapse.job.search_path import add_modules_of_users
from hpcsynapse.runs.telemetry import TelemetryWriter, file_name

if TYPE_CHECKING:
    from hpcsynapse.job.clock import ClockService

_WRITE = 5.0  # seconds between writes
_BUDGET = 0.003  # of a core
_JUDGED = 60.0  # seconds after which the cost is looked at, each time
_SLOWEST = 60.0  # seconds: the longest interval that the budget leads to
_CPU_LIMIT = 3600  # CPU-seconds after which the kernel ends it (setrlimit(2))
_ENDING = 1.0  # seconds in which the ranks of a node end together
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


class Sampler:
    """Takes and writes the records of one node; `plan` is what `start.begin` has written."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._wrapper, self._interval = int(plan["wrapper"]), float(plan["interval"])
        self._processes = Processes(plan["run_dir"], plan["attempt"], self._interval)
        self._steps = Steps(Path(plan["run_dir"]) / "timings", plan["attempt"])
        self._sources: list[Source] = [
            Host(),
            ControlGroup(plan["jobs"]),
            self._processes,
            self._steps,
            Interfaces(),
            Ports(),
            Gpus(plan["granted"], self._interval),
        ]
        self._begun = time.monotonic()
        started = time.time()
        self._anchor = started - self._begun
        description: dict[str, object] = {
            **{key: plan[key] for key in ("run", "attempt", "node_rank", "nodes")},
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "interval": self._interval,
            "started": started,
            "clock": "time.time at the start, on by time.monotonic",
        }
        for source in self._sources:
            description |= source.told
        description["missing"] = {key: why for source in self._sources for key, why in source.missing.items()}
        columns = [column for source in self._sources for column in source.columns]
        self._writer = _opened(Path(plan["folder"]), plan["attempt"], columns, description)
        self._before = self._written = self._begun
        self._judged, self._cost = self._begun, time.process_time()
        self._values(0.0)  # from which amounts are counted

    def _values(self, seconds: float) -> Values:
        return [value for source in self._sources for value in source.read(seconds)]

    def take(self, *, last: bool = False) -> None:
        """Take a record, and write all that wait where it is time to."""
        now = time.monotonic()
        self._steps.know(self._processes.ranks)
        seconds, self._before = now - self._before, now
        self._writer.add(now + self._anchor, seconds, self._values(seconds), last=last)
        if last or now - self._written >= _WRITE:
            self._written = now
            with suppress(OSError):  # a full disk: they wait for it
                self._writer.flush()
        if now - self._judged >= _JUDGED:
            self._judge(now)

    def _judge(self, now: float) -> None:
        """Slow down where the last minute cost more than the budget."""
        cost = time.process_time()
        if (cost - self._cost) > _BUDGET * (now - self._judged):
            self._interval = min(self._interval * 2, max(_SLOWEST, self._interval))
        self._judged, self._cost = now, cost

    def run(self) -> None:
        """Take records until no program of the run is left on this node."""
        due = time.monotonic() + self._interval
        told = False
        while True:
            number = signal.sigtimedwait(_SIGNALS, max(0.0, due - time.monotonic()))
            told = told or (number is not None and number.si_signo == signal.SIGTERM)
            if number is not None and not told:
                continue
            if (told or self._alone) and self._over(number is not None):
                self.take(last=True)
                return
            if time.monotonic() >= due:
                self.take()
                due = max(due + self._interval, time.monotonic() + self._interval / 2)

    @property
    def _alone(self) -> bool:
        """Whether the process that started this one is gone: killed, or ended before others."""
        return os.getppid() != self._wrapper

    def _over(self, wait: bool) -> bool:
        """Tell whether no program is left; after a signal those that end together are waited for, for a moment."""
        until = time.monotonic() + (_ENDING if wait else 0.0)
        while self._processes.alive():
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True


def _opened(folder: Path, attempt: str, columns: list[Any], description: dict[str, object]) -> TelemetryWriter:
    """Return a new file for this node; where a sampler has ended, another name; raises FileExistsError for one at work.

    A rank that is started again within a job may come after the sampler of its node has ended.
    """
    host = socket.gethostname()
    for life in range(1000):
        path = folder / file_name(host, f"{attempt}+{life}" if life else attempt)
        with suppress(FileExistsError):
            return TelemetryWriter(path, columns, description)
        if _at_work(path):
            break
    raise FileExistsError(f"{folder}: this node has a sampler already")


def _at_work(path: Path) -> bool:
    """Tell whether the process that writes a file still runs; one that has no whole first line yet does."""
    try:
        with path.open("rb") as file:
            pid = json.loads(file.readline(1 << 22))["pid"]
    except (ValueError, KeyError, TypeError):
        return True
    except OSError:
        return False
    return supervise.is_tool(pid, "sampler")


def _be_harmless() -> None:
    """Give way to everything: priority, memory, CPU time; and run where there is room, not on a rank's own core."""
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT, _CPU_LIMIT))
    with suppress(OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    os.chdir("/")


def _clock(plan: dict[str, Any]) -> ClockService | None:
    """Begin to measure how far the node's clock is from the others'; one alone, or of servers alone, does not."""
    if plan["nodes"] < 2 or not isinstance(plan["node_rank"], int):
        return None
    from hpcsynapse.job.clock import ClockService  # with OpenSSL, which a job of one node needs not
    from hpcsynapse.runs.directory import RunDirectory

    found = ClockService(RunDirectory(Path(plan["folder"]).parent), plan["attempt"], plan["node_rank"], plan["nodes"])
    found.begin()
    return found


def main(arguments: list[str]) -> int:
    """Sample this node as the plan says."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # before there are threads
    plan = json.loads(arguments[0])
    _be_harmless()
    add_modules_of_users()  # NVML's among them, at some sites
    try:
        sampler = Sampler(plan)
    except FileExistsError:
        return 0
    clock = _clock(plan)
    sampler.run()
    if clock is not None:
        clock.finish()
    os._exit(0)  # whatever a thread waits for
