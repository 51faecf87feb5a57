"""The load of nodes now, or at the end of a run, from the newest records of their telemetry files alone."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsynapse.errors import RecordError
from hpcsynapse.files import read_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.telemetry import LAST, Telemetry, telemetry
from hpcsynapse.table import FRACTION, KEY, SECONDS, column, columns

_OVER = 5.0  # seconds that are looked at together: one write of a sampler
_BACK = 8  # records further back in which what is not measured every time is looked for
SILENT = 21.0  # seconds without growth after which a node is said to be silent
_GROWS = 7.0  # seconds in which the file of a live sampler grows
DAEMONS = ".nodes"  # folder, in that of all runs, of machines that are watched outside of jobs
RUNNING, ENDED, IS_SILENT = "running", "ended", "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoad:
    """The load of one node over its newest records; the fields, in this order, are the columns."""

    run: str = column("name of the run; none for a machine outside of jobs", priority=KEY)
    node: str = column("name of the node", priority=KEY, always=True)
    roles: str = column("ranks and parameter servers on it", priority=4)
    state: str = column("running, ended with its ranks, or silent: its file does not grow", priority=8, always=True)
    cpu: float | None = column("share of all cores in use, by whomever", unit=FRACTION, priority=8)
    cpus: int | None = column("cores", shown=False)
    ranks_cpu: float | None = column("cores that the run's processes used", head="ranks' cores", priority=6)
    job_cpu: float | None = column("cores that the job's control group used", head="job's cores", shown=False)
    memory: float | None = column("share of memory in use, by whomever", unit=FRACTION, priority=8)
    memory_bytes: float | None = column("memory of the node", shown=False)
    ranks_memory_bytes: float | None = column("resident memory of the run's processes", shown=False)
    job_memory_bytes: float | None = column("memory of the job's control group, without page cache", shown=False)
    job_memory_limit: float | None = column("its limit", shown=False)
    oom_kills: int | None = column("processes of the job that were killed for want of memory", head="OOM", priority=7)
    received_mb_s: float | None = column("megabytes received per second", head="in MB/s", priority=7)
    sent_mb_s: float | None = column("megabytes sent per second", head="out MB/s", priority=7)
    received_packets_s: float | None = column("packets received per second", head="in packets/s", shown=False)
    sent_packets_s: float | None = column("packets sent per second", head="out packets/s", shown=False)
    disk_read_mb_s: float | None = column("megabytes read from its own disks per second", shown=False)
    disk_written_mb_s: float | None = column("megabytes written to its own disks per second", shown=False)
    gpus: int = column("GPUs that are measured", shown=False)
    gpu: float | None = column("share of time in which kernels ran, mean of its GPUs", unit=FRACTION, priority=8)
    sm_active: float | None = column("share of multiprocessors at work (GPM), mean", unit=FRACTION, priority=5)
    gpu_memory: float | None = column("share of GPU memory in use", unit=FRACTION, priority=6)
    power_w: float | None = column("power of its GPUs in watts", head="W", priority=5)
    step: int | None = column("newest step of its ranks", priority=6)
    samples_s: float | None = column("samples per second of its ranks", head="samples/s", priority=6)
    step_s: float | None = column("time of a step, mean of its ranks", head="step time", unit=SECONDS, priority=5)
    slowest_rank: int | None = column("the rank with the longest time outside of communication", priority=3)
    slowest_s: float | None = column("that time", head="its own time", unit=SECONDS, priority=3)
    median_s: float | None = column("the same of the median rank", shown=False)
    records: int = column("records so far", shown=False)
    missing: str = column("what is not measured, and why", shown=False)


COLUMNS = columns(NodeLoad)


class Look:
    """Looks at the telemetry of runs and machines; each knows what grew since the one before."""

    def __init__(self, runs: Sequence[RunDirectory], daemons: Path | None = None, silent: float = SILENT) -> None:
        self._runs, self._daemons, self._silent = runs, daemons, silent
        self._grown: dict[Path, tuple[int, float]] = {}

    def look(self, *, wait: bool) -> list[NodeLoad]:
        """Return the load of every node; one whose file seems old is watched for a moment where `wait`.

        A node is silent when its file has not grown by the clock of this process while this process looked. The time
        at which it was written only says that it is worth to look twice: clocks of nodes differ.
        """
        found: list[tuple[str, Telemetry, str, bool]] = []
        for run in self._runs:
            files = newest(telemetry(run.telemetry))
            over = str((read_json(run.exit) or {}).get("attempt", ""))
            told = roles(run, {str(one.header.get("attempt")) for one in files})
            found += [(run.name, one, told.get(one.host, ""), one.header.get("attempt") == over) for one in files]
        if self._daemons:
            found += [("", one, "", False) for one in newest(telemetry(self._daemons))]
        records = {one.path: _records(one) for _, one, _, _ in found}
        alive = {one.path: one for _, one, _, over in found if not over and not _last(records[one.path])}
        silent = self._silent_of(alive, wait=wait)
        return [_load(name, one, roles, _state(one, alive, silent), records[one.path]) for name, one, roles, _ in found]

    def _silent_of(self, alive: Mapping[Path, Telemetry], *, wait: bool) -> set[Path]:
        now = time.monotonic()
        for path, one in alive.items():
            if one.count != self._grown.get(path, (-1, 0.0))[0]:
                self._grown[path] = (one.count, now)
        if not wait:
            return {path for path, one in alive.items() if now - self._grown[path][1] > self._limit(one)}
        suspects = {path for path, one in alive.items() if abs(time.time() - one.modified) > self._limit(one)}
        until = now + max((_GROWS + alive[path].interval for path in suspects), default=0.0)
        while suspects and time.monotonic() < until:
            time.sleep(0.2)
            suspects = {path for path in suspects if not _grew(path, alive[path].count)}
        return suspects

    def _limit(self, one: Telemetry) -> float:
        return max(self._silent, 3 * one.interval)


def over_time(run: RunDirectory, points: int) -> dict[str, list[tuple[float, NodeLoad]]]:
    """Return Unix times and loads of every node at so many times of its newest start; only their records are read."""
    found: dict[str, list[tuple[float, NodeLoad]]] = {}
    for one in newest(telemetry(run.telemetry)):
        together = max(1, round(_OVER / one.interval)) + _BACK
        wanted = max(1, min(points, one.count // together))
        for number in range(1, wanted + 1) if one.count else ():
            end = one.count * number // wanted
            records = one.records(max(0, end - together), end)
            if records:
                load = _load(run.name, one, "", RUNNING, records)
                found.setdefault(one.host, []).append((records[-1]["time"], load))
    return found


def newest(files: Iterable[Telemetry]) -> list[Telemetry]:
    """Return of every node its file of the newest start."""
    found: dict[str, Telemetry] = {}
    for one in files:
        if one.host not in found or one.started >= found[one.host].started:
            found[one.host] = one
    return list(found.values())


def _grew(path: Path, count: int) -> bool:
    try:
        return Telemetry(path).count > count
    except (OSError, RecordError):
        return False


def _records(one: Telemetry) -> list[dict[str, float]]:
    """Return the newest records, at least those of one write."""
    try:
        return one.records(-max(1, round(_OVER / one.interval)) - _BACK)
    except OSError:
        return []


def _last(records: Sequence[Mapping[str, float]]) -> bool:
    return bool(records) and bool(int(records[-1]["flags"]) & LAST)


def _state(one: Telemetry, alive: Mapping[Path, Telemetry], silent: set[Path]) -> str:
    return ENDED if one.path not in alive else IS_SILENT if one.path in silent else RUNNING


def roles(run: RunDirectory, attempts: Iterable[str]) -> dict[str, str]:
    """Return by host which ranks and parameter servers ran there, as they have shown before the first step."""
    ranks: dict[str, list[int]] = {}
    for item in (read_json(run.placement) or {}).get("ranks", ()):
        if isinstance(item, dict) and isinstance(item.get("rank"), int):
            ranks.setdefault(str(item.get("host")), []).append(item["rank"])
    found = {host: f"rank {_ranges(numbers)}" for host, numbers in ranks.items()}
    for attempt in attempts:
        for path in sorted(run.evidence(attempt).glob("ps-*.json")):
            item = read_json(path) or {}
            host, name = str(item.get("host")), f"ps {item.get('task_index')}"
            found[host] = f"{found[host]}, {name}" if host in found else name
    return found


def _ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers as people write them: 0-3 6."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return " ".join("-".join(map(str, part)) for part in parts)


class _Values:
    """The newest records of a node, nan being nothing."""

    def __init__(self, records: Sequence[Mapping[str, float]], interval: float) -> None:
        if len(records) > 1 and _last(records):
            records = records[:-1]  # it was taken when the programs had ended
        self._all = records
        self._over = records[-max(1, round(_OVER / interval)) :]
        self.names = list(records[-1]) if records else []

    def rate(self, *names: str, factor: float = 1.0) -> float | None:
        """Return the amounts of these columns together per second."""
        known = [one for one in self._over if not any(math.isnan(one.get(name, math.nan)) for name in names)]
        seconds = sum(one["seconds"] for one in known)
        return factor * sum(one[name] for one in known for name in names) / seconds if names and seconds else None

    def rare(self, name: str) -> float | None:
        """Return the rate of an amount that is of several records when it is there."""
        at = [place for place, one in enumerate(self._all) if not math.isnan(one.get(name, math.nan))]
        if len(at) < 2:
            return None
        passed = sum(one["seconds"] for one in self._all[at[-2] + 1 : at[-1] + 1])
        return self._all[at[-1]][name] / passed if passed else None

    def now(self, name: str) -> float | None:
        """Return the newest value."""
        values = (one[name] for one in reversed(self._all) if not math.isnan(one.get(name, math.nan)))
        return next(values, None)

    def mean(self, names: Sequence[str], factor: float = 1.0) -> float | None:
        """Return the mean of the newest values of several columns."""
        found = [value for value in map(self.now, names) if value is not None]
        return factor * sum(found) / len(found) if found else None


def _load(run: str, one: Telemetry, roles: str, state: str, records: Sequence[Mapping[str, float]]) -> NodeLoad:
    values, told = _Values(records, one.interval), one.header
    cpus, memory = told.get("cpus"), told.get("memory_bytes")
    gpus = _gpus(values, told)
    cpu, used = values.rate("cpu_user", "cpu_system"), values.now("memory_used")
    slowest = values.now("slowest_rank")
    known = slowest is not None and slowest >= 0
    step = values.now("step")
    interfaces = exchanges_over(told, values.names)
    return NodeLoad(
        run=run,
        node=one.host,
        roles=roles,
        state=state,
        cpu=cpu / cpus if cpu is not None and cpus else None,
        cpus=cpus,
        ranks_cpu=values.rare("ranks_cpu") if run else None,
        job_cpu=values.rate("job_cpu"),
        memory=used / memory if used is not None and memory else None,
        memory_bytes=memory,
        ranks_memory_bytes=values.now("ranks_memory") if run else None,
        job_memory_bytes=values.now("job_memory"),
        job_memory_limit=told.get("job_memory_limit"),
        oom_kills=_whole(values.now("job_oom_kills")),
        received_mb_s=values.rate(*(f"{name}.received_bytes" for name in interfaces), factor=1e-6),
        sent_mb_s=values.rate(*(f"{name}.sent_bytes" for name in interfaces), factor=1e-6),
        received_packets_s=values.rate(*(f"{name}.received_packets" for name in interfaces)),
        sent_packets_s=values.rate(*(f"{name}.sent_packets" for name in interfaces)),
        disk_read_mb_s=values.rate("disk_read", factor=1e-6),
        disk_written_mb_s=values.rate("disk_written", factor=1e-6),
        step=_whole(step) if known or step else None,
        samples_s=values.rate("samples") if known or step else None,
        step_s=values.now("step_time"),
        slowest_rank=_whole(_last_rank(records)),
        slowest_s=values.now("own_slowest"),
        median_s=values.now("own_median"),
        records=one.count,
        missing="; ".join(f"{what}: {why}" for what, why in one.missing.items()),
        **gpus,
    )


def _gpus(values: _Values, told: Mapping[str, object]) -> dict[str, Any]:
    listed = told.get("gpus")
    devices = listed if isinstance(listed, list) else []

    def each(name: str) -> list[str]:
        return [f"gpu.{number}.{name}" for number in range(len(devices))]

    memory = sum(float(one.get("memory_bytes") or 0) for one in devices if isinstance(one, dict))
    used, power = values.mean(each("memory_used")), values.mean(each("power"))
    return {
        "gpus": len(devices),
        "gpu": values.mean(each("utilisation"), 0.01),
        "sm_active": values.mean(each("sm_active"), 0.01),
        "gpu_memory": used * len(devices) / memory if used is not None and memory else None,
        "power_w": power * len(devices) if power is not None else None,
    }


def exchanges_over(told: Mapping[str, object], names: Sequence[str]) -> list[str]:
    """Return what the node exchanges over: interfaces that are not counted twice, and InfiniBand's ports.

    Where only the loopback interface is, processes of one machine meet there.
    """
    table = told.get("interfaces")
    interfaces = table if isinstance(table, dict) else {}
    found = [f"net.{name}" for name, one in interfaces.items() if isinstance(one, dict) and one.get("counted")]
    ports = told.get("ports")
    found += [f"ib.{name}" for name in ports] if isinstance(ports, list) else []
    return [name for name in found if f"{name}.sent_bytes" in names]


def _last_rank(records: Sequence[Mapping[str, float]]) -> float | None:
    return next((one["slowest_rank"] for one in reversed(records) if one.get("slowest_rank", -1) >= 0), None)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
