"""Bytes per node and direction: what the ranks and parameter servers of each host sent and received."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcsynapse.errors import RecordError
from hpcsynapse.records import Part, parts
from hpcsynapse.rundir import RunDirectory
from hpcsynapse.timing import FIELDS

_DTYPE = np.dtype([(name, kind) for name, kind, _ in FIELDS])


def _column(meaning: str) -> Any:
    return dataclasses.field(metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTraffic:
    """What one node of a run exchanged; bytes are those of TCP connections (see `counted`)."""

    run: str = _column("name of the run")
    strategy: str = _column("strategy")
    nodes: int = _column("nodes of the ranks")
    host: str = _column("name of the node")
    processes: str = _column("ranks and parameter servers on it")
    counted: str = _column("connections that are counted")
    seconds: float = _column("from the first to the last recorded step of the run")
    sent_mb: float = _column("megabytes sent")
    received_mb: float = _column("megabytes received")
    sent_mb_s: float = _column("megabytes sent per second")
    received_mb_s: float = _column("megabytes received per second")
    sent_bytes_per_sample: float = _column("bytes sent per sample that the run trained on")
    received_bytes_per_sample: float = _column("bytes received per sample that the run trained on")


COLUMNS: dict[str, str] = {item.name: item.metadata["meaning"] for item in dataclasses.fields(NodeTraffic)}


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
    for part in found:
        records = np.frombuffer(part.read(), _DTYPE)
        host = str(part.header.get("host"))
        total = sums.setdefault(host, [0.0, 0.0])
        total[0] += float(records["sent"].sum())
        total[1] += float(records["received"].sum())
        processes.setdefault(host, set()).add((_role(part), int(part.header["rank"])))
        if _role(part) == "worker":
            begin = min(begin, float(records["start"].min()))
            end = max(end, float((records["start"] + records["total"]).max()))
            samples += float(records["samples"].sum())
    header, seconds = found[-1].header, max(end - begin, 1e-9)
    return [
        NodeTraffic(
            run=name, strategy=str(header.get("strategy", "")), nodes=int(header.get("nodes", 1)), host=host,
            processes=_named(processes[host]), counted=str(header.get("traffic", "")), seconds=seconds,
            sent_mb=sent / 1e6, received_mb=received / 1e6, sent_mb_s=sent / 1e6 / seconds,
            received_mb_s=received / 1e6 / seconds, sent_bytes_per_sample=sent / max(samples, 1.0),
            received_bytes_per_sample=received / max(samples, 1.0),
        )
        for host, (sent, received) in sorted(sums.items())
    ]  # fmt: skip


def _role(part: Part) -> str:
    return str(part.header.get("role", "worker"))


def _named(processes: set[tuple[str, int]]) -> str:
    return " ".join(f"{'rank' if role == 'worker' else role} {number}" for role, number in sorted(processes))
