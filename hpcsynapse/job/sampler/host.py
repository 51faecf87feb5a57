"""CPU, memory and disks of the whole node, as the kernel counts them (proc(5)); they are shared with other jobs."""

from __future__ import annotations

import os
from pathlib import Path

from hpcsynapse.job.sampler.source import Increase, KeptOpen, Values
from hpcsynapse.runs.telemetry import Column

_SECTOR = 512  # bytes, whatever the disk's own sectors are (Documentation/admin-guide/iostats)


class Host:
    """The node's totals."""

    columns = (
        Column("cpu_user", "<f4", "s", "CPU time of all cores in programs"),
        Column("cpu_system", "<f4", "s", "CPU time of all cores in the kernel, with interrupts"),
        Column("cpu_waiting", "<f4", "s", "time in which cores idled and a disk was awaited"),
        Column("cpu_stolen", "<f4", "s", "time that the machine below a virtual one took"),
        Column("memory_used", "<f4", "B", "memory that programs could not be given, page cache left out"),
        Column("swap_used", "<f4", "B", "swap in use"),
        Column("disk_read", "<f4", "B", "read from the node's own disks"),
        Column("disk_written", "<f4", "B", "written to the node's own disks"),
    )

    def __init__(self, proc: Path = Path("/proc"), block: Path = Path("/sys/block")) -> None:
        self._stat, self._memory = KeptOpen(proc / "stat", 512), KeptOpen(proc / "meminfo", 4096)
        self._disks, self._block = KeptOpen(proc / "diskstats"), block
        self._known: dict[str, bool] = {}
        self._tick = 1.0 / os.sysconf("SC_CLK_TCK")
        self._cpu, self._bytes = Increase(), Increase()
        self.missing: dict[str, str] = {}
        total = self._memory.fields().get("MemTotal")
        self.told: dict[str, object] = {"cpus": os.cpu_count() or 1, "memory_bytes": total * 1024 if total else None}
        if not self._whole(self._disks.text()):
            self.missing["disk"] = "this node shows no disk of its own"

    def read(self, seconds: float) -> Values:
        """Return CPU-seconds, bytes in use, and bytes read and written."""
        words = self._stat.text().partition("\n")[0].split()[1:9]
        ticks = [int(word) for word in words] if len(words) == 8 else []
        counted: list[int | None] = [None] * 4
        if ticks:
            user, nice, system, _, waiting, irq, softirq, stolen = ticks
            counted = [user + nice, system + irq + softirq, waiting, stolen]
        cpu = [None if grown is None else grown * self._tick for grown in self._cpu.of(counted)]
        memory = self._memory.fields()
        used = _difference(memory, "MemTotal", "MemAvailable")
        swap = _difference(memory, "SwapTotal", "SwapFree")
        return [*cpu, used, swap, *self._bytes.of(self._whole(self._disks.text()) or [None, None])]

    def _whole(self, text: str) -> list[int | None]:
        """Return bytes read and written by whole disks, not by their partitions and what is laid over them."""
        read, written, found = 0, 0, False
        for line in text.splitlines():
            words = line.split()
            if len(words) > 9 and self._is_disk(words[2]):
                read, written, found = read + int(words[5]), written + int(words[9]), True
        return [read * _SECTOR, written * _SECTOR] if found else []

    def _is_disk(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = (self._block / name / "device").exists()
        return self._known[name]


def _difference(table: dict[str, int], whole: str, free: str) -> float | None:
    return (table[whole] - table[free]) * 1024.0 if whole in table and free in table else None
