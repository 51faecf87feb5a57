"""What each node of a run did over all of it, from samples of its telemetry: quick enough for a login node."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hpcsynapse.errors import RecordError
from hpcsynapse.files import read_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.telemetry import Telemetry, telemetry
from hpcsynapse.timing import PHASES

_STRETCH = 10  # records behind one another that are read together: some values are of several of them
_STRETCHES = 960  # of all nodes together, and of each
_MOST, _LEAST = 60, 4
Record = Mapping[str, float]


@dataclass(slots=True)
class NodeSummary:
    """What one node did; times in seconds, None where nothing tells."""

    host: str
    seconds: float = 0.0  # covered by its records, of all starts
    cores: int = 0  # that its ranks might use
    cores_used: float | None = None  # by the ranks, mean
    memory_peak: float | None = None  # bytes, of the job where that is known, else of its ranks
    memory_limit: float | None = None  # bytes that the job was allowed, else of the node
    limited: bool = False  # whether that is the job's own limit
    oom_kills: int = 0
    gpus: int = 0
    gpu: float | None = None  # share of time in which a kernel ran
    sm_active: float | None = None
    energy: float | None = None  # joules
    samples: float = 0.0
    in_steps: float = 0.0  # share of its time
    step_time: float = 0.0  # mean
    phases: dict[str, float] = field(default_factory=dict)  # seconds of a step
    own: float = 0.0  # seconds of a step outside of communication, of its median rank
    slowest: float = 0.0  # the same of its slowest rank
    slowest_rank: int = -1  # most often
    in_order: bool = False  # whether its newest sampler ended with the ranks


def summaries(run: RunDirectory) -> list[NodeSummary]:
    """Return a summary of every node that recorded anything, by the number of the node."""
    files = [one for one in telemetry(run.telemetry) if one.count]
    cores = cores_of(run)
    nodes: dict[str, list[Telemetry]] = {}
    for one in files:
        nodes.setdefault(one.host, []).append(one)
    stretches = max(_LEAST, min(_MOST, _STRETCHES // max(1, len(files))))
    return [_of_node(host, starts, stretches, cores.get(host, 0)) for host, starts in nodes.items()]


def cores_of(run: RunDirectory) -> dict[str, int]:
    """Return by host how many cores its ranks may run on, as they have shown before the first step."""
    found: dict[str, set[int]] = {}
    for item in (read_json(run.placement) or {}).get("ranks", ()):
        if isinstance(item, dict) and isinstance(item.get("cpus"), list):
            found.setdefault(str(item.get("host")), set()).update(item["cpus"])
    return {host: len(cpus) for host, cpus in found.items()}


def _sampled(one: Telemetry, stretches: int) -> list[list[dict[str, float]]]:
    """Return stretches of records, evenly over all of them."""
    if one.count <= stretches * _STRETCH:
        return [one.records()]
    firsts = [index * (one.count - _STRETCH) // max(1, stretches - 1) for index in range(stretches)]
    return [one.records(first, first + _STRETCH) for first in firsts]


def _of_node(host: str, starts: Sequence[Telemetry], stretches: int, cores: int) -> NodeSummary:
    told = starts[-1].header
    found = NodeSummary(host, cores=cores or int(told.get("cpus") or 0))
    sampled, weight = list[list[dict[str, float]]](), 0.0
    for one in starts:
        try:
            read = _sampled(one, stretches)
        except (OSError, RecordError):
            continue
        sampled += read
        seen = sum(record["seconds"] for stretch in read for record in stretch)
        passed = _passed(one, read)
        found.seconds += passed
        weight += seen
        found.in_order = bool(read and read[-1] and int(read[-1][-1]["flags"]))
    records = [record for stretch in sampled for record in stretch]
    scale = found.seconds / weight if weight else 0.0
    found.cores_used = _cores_used(sampled)
    _memory(found, records, told)
    _gpus(found, records, told, scale)
    _steps(found, sampled, records, scale)
    return found


def _passed(one: Telemetry, read: Sequence[Sequence[Record]]) -> float:
    """Return the seconds that a file covers."""
    if not read or not read[0]:
        return 0.0
    first, last = read[0][0], read[-1][-1]
    return max(0.0, last["time"] - first["time"] + first["seconds"])


def _known(records: Iterable[Record], name: str) -> list[float]:
    return [value for record in records if not math.isnan(value := record.get(name, math.nan))]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _cores_used(stretches: Sequence[Sequence[Record]]) -> float | None:
    """Return CPU-seconds of the ranks a second, between the first and the last look at them in each stretch."""
    used = passed = 0.0
    for stretch in stretches:
        at = [place for place, one in enumerate(stretch) if not math.isnan(one.get("ranks_cpu", math.nan))]
        if len(at) > 1:
            used += sum(stretch[place]["ranks_cpu"] for place in at[1:])
            passed += sum(one["seconds"] for one in stretch[at[0] + 1 : at[-1] + 1])
    return used / passed if passed else None


def _memory(found: NodeSummary, records: Sequence[Record], told: Mapping[str, object]) -> None:
    job, ranks = _known(records, "job_memory"), _known(records, "ranks_memory")
    found.memory_peak = max(job or ranks, default=None)
    limit, whole = told.get("job_memory_limit"), told.get("memory_bytes")
    found.limited = isinstance(limit, (int, float)) and limit > 0
    either = limit if found.limited else whole
    found.memory_limit = float(either) if isinstance(either, (int, float)) else None
    found.oom_kills = int(max(_known(records, "job_oom_kills"), default=0))


def _gpus(found: NodeSummary, records: Sequence[Record], told: Mapping[str, object], scale: float) -> None:
    gpus = told.get("gpus")
    found.gpus = len(gpus) if isinstance(gpus, list) else 0
    names = [f"gpu.{number}." for number in range(found.gpus)]
    found.gpu = _mean([value / 100 for name in names for value in _known(records, f"{name}utilisation")])
    found.sm_active = _mean([value / 100 for name in names for value in _known(records, f"{name}sm_active")])
    energy = [value for name in names for value in _known(records, f"{name}energy")]
    found.energy = sum(energy) * scale if energy else None


def _steps(found: NodeSummary, stretches: Sequence[Sequence[Record]], records: Sequence[Record], scale: float) -> None:
    made = [one for one in records if not math.isnan(one.get("step_time", math.nan))]
    if not made:
        return
    found.samples = sum(_known(records, "samples")) * scale
    found.step_time = sum(one["step_time"] for one in made) / len(made)
    found.phases = {phase: sum(_known(made, phase)) / len(made) for phase in PHASES}
    found.own = sum(one["own_median"] for one in made) / len(made)
    found.slowest = sum(one["own_slowest"] for one in made) / len(made)
    ranks = [int(one["slowest_rank"]) for one in made]
    found.slowest_rank = max(set(ranks), key=ranks.count)
    busy = passed = 0.0
    for stretch in stretches:
        if len(stretch) < 2:
            continue
        times = _known(stretch, "step_time")
        # A step number of 0 stands before the first step; after a restart numbers may fall.
        steps = sum(max(0.0, b["step"] - a["step"]) for a, b in pairwise(stretch))
        seconds = sum(one["seconds"] for one in stretch[1:])
        busy += min(steps * sum(times) / len(times), seconds) if times else 0.0
        passed += seconds
    found.in_steps = busy / passed if passed else 0.0
