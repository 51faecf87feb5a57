"""Bytes per node and direction: what the ranks and parameter servers of each host sent and received."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcsynapse.errors import RecordError
from hpcsynapse.report.offsets import correction_of
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import Part, parts
from hpcsynapse.table import KEY, SECONDS, column, columns
from hpcsynapse.timing import FIELDS

_DTYPE = np.dtype([(name, kind) for name, kind, _ in FIELDS])


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTraffic:
    """What one node of a run exchanged; bytes are those of TCP connections (see `counted`)."""

    run: str = column("name of the run", priority=KEY, always=True)
    strategy: str = column("strategy", priority=8)
    nodes: int = column("nodes of the ranks")
    host: str = column("name of the node", priority=KEY, always=True)
    processes: str = column("ranks and parameter servers on it", priority=4, always=True)
    counted: str = column("connections that are counted", priority=2)
    seconds: float = column(
        "from the first to the last recorded step of the run", head="over", unit=SECONDS, priority=3
    )
    sent_mb: float = column("megabytes sent", head="sent MB", priority=6)
    received_mb: float = column("megabytes received", head="received MB", priority=6)
    sent_mb_s: float = column("megabytes sent per second", head="sent MB/s", priority=7)
    received_mb_s: float = column("megabytes received per second", head="received MB/s", priority=7)
    sent_bytes_per_sample: float = column("bytes sent per sample that the run trained on", shown=False)
    received_bytes_per_sample: float = column("bytes received per sample that the run trained on", shown=False)


COLUMNS = columns(NodeTraffic)


def traffic(sources: Iterable[RunDirectory | Path]) -> list[NodeTraffic]:
    """Return a row for every node of every run, over all starts of the job; raises RecordError without records."""
    return [row for source in sources for row in _of_run(source)]


def _of_run(source: RunDirectory | Path) -> list[NodeTraffic]:
    run = source if isinstance(source, RunDirectory) else None
    folder, name = (run.timings, run.name) if run else (Path(str(source)), str(source))
    found = [part for part in parts(folder, role=None) if part.count]
    if not any(_role(part) == "worker" for part in found):
        raise RecordError(f"{name}: no step records in {folder}; has the run done a step yet?")
    sums: dict[str, list[float]] = {}
    processes: dict[str, set[tuple[str, int]]] = {}
    begin, end, samples = np.inf, -np.inf, 0.0
    correct = correction_of(folder, found)
    for part in found:
        records = np.frombuffer(part.read(), _DTYPE)
        host = str(part.header.get("host"))
        total = sums.setdefault(host, [0.0, 0.0])
        total[0] += float(records["sent"].sum())
        total[1] += float(records["received"].sum())
        processes.setdefault(host, set()).add((_role(part), int(part.header["rank"])))
        if _role(part) == "worker":
            start = correct(part, records["start"])
            begin, end = min(begin, float(start.min())), max(end, float((start + records["total"]).max()))
            samples += float(records["samples"].sum())
    header, seconds = found[-1].header, max(end - begin, 1e-9)
    return [
        NodeTraffic(
            run=name,
            strategy=str(header.get("strategy", "")),
            nodes=int(header.get("nodes", 1)),
            host=host,
            processes=_named(processes[host]),
            counted=str(header.get("traffic", "")),
            seconds=seconds,
            sent_mb=sent / 1e6,
            received_mb=received / 1e6,
            sent_mb_s=sent / 1e6 / seconds,
            received_mb_s=received / 1e6 / seconds,
            sent_bytes_per_sample=sent / max(samples, 1.0),
            received_bytes_per_sample=received / max(samples, 1.0),
        )
        for host, (sent, received) in sorted(sums.items())
    ]


def _role(part: Part) -> str:
    return str(part.header.get("role", "worker"))


def _named(processes: set[tuple[str, int]]) -> str:
    return " ".join(f"{'rank' if role == 'worker' else role} {number}" for role, number in sorted(processes))
