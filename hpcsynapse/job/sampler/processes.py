"""The processes of a run's ranks and parameter servers on this node, known by what their environment says."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hpcsynapse.job.sampler.source import Values
from hpcsynapse.runs.telemetry import Column

_LOOK = 5.0  # seconds between looks for processes that are new


class Processes:
    """All that the programs of ranks and servers have started on this node; `ranks` are those seen so far."""

    columns = (
        Column("ranks_cpu", "<f4", "s", "CPU time of the ranks' and servers' processes; every few records"),
        Column("ranks_memory", "<f4", "B", "their resident memory, what they share counted for each of them"),
        Column("ranks_processes", "<f4", "", "how many there are"),
    )

    def __init__(self, run: str, attempt: str, interval: float, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._mark = f"HPCSYNAPSE_RUN_DIR={run}".encode()
        self._start = f"HPCSYNAPSE_ATTEMPT={attempt}".encode()
        self._every = max(1, round(_LOOK / interval))
        self._tick, self._page = 1.0 / os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGESIZE")
        self._own = {os.getpid(), os.getppid()}  # the wrapper that waits for this process is no program
        self._strangers: set[int] = set()
        self._cpu: dict[int, int] = {}  # ticks by process
        self._looks = 0
        self.ranks: set[int] = set()
        self.servers: set[int] = set()
        self.missing: dict[str, str] = {}
        self.told: dict[str, object] = {}

    def read(self, seconds: float) -> Values:
        """Return CPU-seconds since the last look, memory and number of processes; None where there was no look."""
        self._looks += 1
        if self._cpu and self._looks % self._every:
            return [None, None, None]
        self._look()
        ticks, pages, found = 0, 0, dict[int, int]()
        for pid, before in self._cpu.items():
            stat = self._stat(pid)
            if stat:
                found[pid] = int(stat[11]) + int(stat[12])
                ticks += max(0, found[pid] - max(before, 0))
                pages += int(stat[21])
        self._cpu = found
        return [ticks * self._tick, float(pages * self._page), float(len(found))]

    @property
    def seen(self) -> bool:
        """Whether there was a program yet."""
        return bool(self.ranks or self.servers)

    def alive(self) -> bool:
        """Tell whether a program known so far still runs."""
        return any(self._stat(pid) is not None for pid in self._cpu)

    def _look(self) -> None:
        """Take up processes that are new, and forget those that are gone."""
        present = {int(name) for name in os.listdir(self._proc) if name.isdigit()}  # noqa: PTH208 - half the time
        self._strangers &= present
        for pid in present - self._strangers - self._cpu.keys() - self._own:
            self._take_up(pid)

    def _take_up(self, pid: int) -> None:
        try:
            with open(f"{self._proc}/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 - as above
                told = file.read().split(b"\0")
        except OSError:
            told = []
        if self._mark not in told or self._start not in told:
            self._strangers.add(pid)
            return
        table = dict(entry.split(b"=", 1) for entry in told if b"=" in entry)
        with suppress(KeyError, ValueError):  # a wrapper, or a process of the job script: it may become a program
            if table.get(b"HPCSYNAPSE_ROLE") == b"ps":
                self.servers.add(int(table[b"HPCSYNAPSE_TASK_INDEX"]))
            else:
                self.ranks.add(int(table[b"RANK"]))
            self._cpu[pid] = 0

    def _stat(self, pid: int) -> list[str] | None:
        """Return the fields of a live process from its state on (proc(5)), else None."""
        try:
            with open(f"{self._proc}/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - as above
                words = file.read(2048).decode("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if not words or words[0] in "ZX" else words
