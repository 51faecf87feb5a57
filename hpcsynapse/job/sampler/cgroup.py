"""What the job itself uses, by its control group (cgroups(7), v1 and v2): nodes may be shared with other jobs."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from hpcsynapse.job.sampler.source import Increase, KeptOpen, Values
from hpcsynapse.runs.telemetry import Column

_NO_LIMIT = 1 << 60  # bytes; v1 writes the largest number there is where there is no limit
# version -> names of: CPU time, its unit (s), time held back, its unit; memory, its peak, events, limit; page cache
_V1 = (
    ("cpuacct.usage", "", 1e-9, "throttled_time", 1e-9),
    ("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "memory.limit_in_bytes"),
    "total_inactive_file",
)
_V2 = (
    ("cpu.stat", "usage_usec", 1e-6, "throttled_usec", 1e-6),
    ("memory.current", "memory.peak", "memory.events", "memory.max"),
    "inactive_file",
)


class ControlGroup:
    """The control group that the queue made for the job; nothing is known where it made none."""

    columns = (
        Column("job_cpu", "<f4", "s", "CPU time of the job on this node"),
        Column("job_throttled", "<f4", "s", "time in which its CPU quota held it back"),
        Column("job_memory", "<f4", "B", "memory of the job, without page cache that can be given up at once"),
        Column("job_memory_peak", "<f4", "B", "the most so far as the kernel counts it, with page cache"),
        Column("job_oom_kills", "<f4", "", "processes of the job killed so far for want of memory"),
    )

    def __init__(
        self, jobs: Collection[str], proc: Path = Path("/proc/self"), root: Path = Path("/sys/fs/cgroup")
    ) -> None:
        own = _own_groups(proc)
        is_v1 = "memory" in own or "cpuacct" in own  # of both, v2 has no controllers then
        cpu, memory = ((root / name, own.get(name)) if is_v1 else (root, own.get("")) for name in ("cpuacct", "memory"))
        self._places = {"cpu": _of_job(jobs, *cpu), "memory": _of_job(jobs, *memory)}
        (usage, self._usage, self._unit, self._throttled, self._held), names, self._cache = _V1 if is_v1 else _V2
        self._cpu, self._quota = self._open("cpu", usage), self._open("cpu", "cpu.stat")
        self._used, self._peak, self._events, limit = (self._open("memory", name) for name in names)
        self._stat = self._open("memory", "memory.stat")
        self._increase = Increase()
        self.missing = {
            f"job's {name}": "the queue made no control group for the job here"
            for name, place in self._places.items()
            if place is None
        }
        most = limit.number()
        self.told: dict[str, object] = {}
        if self._places["memory"]:
            self.told = {"job_memory_limit": most if most and most < _NO_LIMIT else None}

    def _open(self, controller: str, name: str) -> KeptOpen:
        place = self._places[controller]
        return KeptOpen(place / name if place else "", 8192)

    def read(self, seconds: float) -> Values:
        """Return CPU-seconds, bytes in use and at most, and how often the kernel killed a process of the job."""
        usage = self._cpu.fields().get(self._usage) if self._usage else self._cpu.number()
        grown, held = self._increase.of([usage, self._quota.fields().get(self._throttled)])
        used = self._used.number()
        if used is not None:
            used = max(0, used - self._stat.fields().get(self._cache, 0))
        return [
            None if grown is None else grown * self._unit,
            None if held is None else held * self._held,
            used,
            self._peak.number(),
            self._events.fields().get("oom_kill"),
        ]


def _own_groups(proc: Path) -> dict[str, str]:
    """Return the control group of this process by controller; that of v2 has the name "" (cgroups(7))."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _of_job(jobs: Collection[str], mount: Path, path: str | None) -> Path | None:
    """Return the folder of the job's group: the first part of the path that names the job ends it."""
    named = [re.compile(rf"(?<![0-9]){re.escape(job)}(?![0-9])") for job in jobs if job]
    parts = PurePosixPath(path or "/").parts[1:]
    for number, part in enumerate(parts, 1):
        if any(one.search(part) for one in named):
            folder = mount.joinpath(*parts[:number])
            return folder if folder.is_dir() else None
    return None
