"""Telemetry of a run's nodes as arrays, with what the nodes were for, and as curves over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.errors import RecordError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.node_load import exchanges_over, roles
from hpcsynapse.runs.telemetry import Telemetry, telemetry

Floats = npt.NDArray[np.float64]
_LEAST, _MOST = 5.0, 400  # seconds of a point of a curve, and points
AMOUNTS = ("received_bytes", "received_packets", "sent_bytes", "sent_packets")


@dataclass(frozen=True)
class NodeTable:
    """All records of one node of a run, over all of its starts; `over` are the interfaces and ports that count."""

    host: str
    roles: str
    header: dict[str, Any]
    starts: list[npt.NDArray[np.void]]
    over: tuple[str, ...]

    def column(self, name: str) -> Floats:
        """Return the values of a column, nan where a start had none."""
        return np.concatenate(
            [
                one[name].astype(np.float64) if name in (one.dtype.names or ()) else np.full(len(one), np.nan)
                for one in self.starts
            ]
        )

    def amount(self, name: str) -> Floats:
        """Return bytes or packets of all that counts, nan where none of it is known."""
        found = [self.column(f"{one}.{name}") for one in self.over]
        if not found:
            return np.full(sum(map(len, self.starts)), np.nan)
        return np.where(np.isnan(found).all(axis=0), np.nan, np.nansum(found, axis=0))

    def of_gpus(self, name: str) -> list[Floats]:
        """Return a column of every GPU."""
        listed = self.header.get("gpus")
        count = len(listed) if isinstance(listed, list) else 0
        return [self.column(f"gpu.{number}.{name}") for number in range(count)]

    @property
    def role(self) -> str:
        """What the node was for: workers, servers, or both."""
        both = ("rank" in self.roles, "ps" in self.roles)
        return {(True, False): "workers", (False, True): "servers", (True, True): "servers and workers"}.get(both, "")


def node_tables(run: RunDirectory) -> list[NodeTable]:
    """Return the telemetry of every node of a run; raises RecordError where there is none."""
    files = [one for one in telemetry(run.telemetry) if one.count]
    if not files:
        raise RecordError(f"{run.name}: no node has recorded its load; was it submitted with --no-sample?")
    told = roles(run, {str(one.header.get("attempt")) for one in files})
    nodes: dict[str, list[Telemetry]] = {}
    for one in files:
        nodes.setdefault(one.host, []).append(one)
    alone = len(nodes) == 1
    return [_of_node(host, starts, told.get(host, ""), alone) for host, starts in nodes.items()]


def _of_node(host: str, starts: Sequence[Telemetry], named: str, alone: bool) -> NodeTable:
    header = starts[-1].header
    names = [column.name for one in starts for column in one.columns]
    over = ["net.lo"] if alone and "net.lo.sent_bytes" in names else exchanges_over(header, names)
    tables = [np.frombuffer(one.read(), np.dtype(one.kinds)) for one in starts]
    return NodeTable(host, named, header, [one for one in tables if len(one)], tuple(over))


@dataclass(frozen=True)
class Curve:
    """What the nodes of one role in one run did over time: the mean over nodes; `time` in seconds since its start."""

    run: str
    role: str
    nodes: int
    time: Floats
    values: dict[str, Floats]


QUANTITIES = {
    "cores": "cores used by ranks and servers",
    "received_bytes": "received, MB/s",
    "sent_bytes": "sent, MB/s",
    "received_packets": "received, packets/s",
    "sent_packets": "sent, packets/s",
    "gpu": "GPUs: share of time with a kernel, %",
}


def curves(name: str, tables: Iterable[NodeTable]) -> list[Curve]:
    """Return a curve for every role of a run, on the time axis that begins with the run's first record."""
    tables = [one for one in tables if one.starts]
    if not tables:
        return []
    begin = min(float((one.column("time") - one.column("seconds"))[0]) for one in tables)
    end = max(float(one.column("time")[-1]) for one in tables)
    width = max(_LEAST, (end - begin) / _MOST)
    edges = np.asarray(begin + width * np.arange(max(1, int((end - begin) / width)) + 1), np.float64)
    groups: dict[str, list[NodeTable]] = {}
    for one in tables:
        groups.setdefault(one.role, []).append(one)
    return [
        Curve(
            run=name,
            role=role,
            nodes=len(nodes),
            time=(edges[:-1] + edges[1:]) / 2 - begin,
            values={quantity: _mean([_curve(node, quantity, edges) for node in nodes]) for quantity in QUANTITIES},
        )
        for role, nodes in groups.items()
    ]


def _curve(node: NodeTable, quantity: str, edges: Floats) -> Floats:
    """Return a quantity of one node in every stretch of time, nan where nothing was recorded."""
    time, seconds = node.column("time"), node.column("seconds")
    if quantity == "gpu":
        every = node.of_gpus("utilisation")
        values = np.nanmean(every, axis=0) if every else np.full(len(time), np.nan)
        return _binned(time, values * seconds, seconds, edges)
    if quantity == "cores":  # known every few records, for all of the time since the look before
        values = node.column("ranks_cpu")
        looked = np.flatnonzero(~np.isnan(values))
        passed = np.diff(np.concatenate(([0.0], np.cumsum(seconds)[looked])))
        return _binned(time[looked] - passed / 2, values[looked], passed, edges)
    return _binned(time, node.amount(quantity) * (1e-6 if quantity.endswith("bytes") else 1.0), seconds, edges)


def _binned(time: Floats, amounts: Floats, seconds: Floats, edges: Floats) -> Floats:
    """Return amounts per second in every stretch."""
    known = ~np.isnan(amounts)
    place = np.clip(np.searchsorted(edges, time[known], side="right") - 1, 0, len(edges) - 2)
    total, passed = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    np.add.at(total, place, amounts[known])
    np.add.at(passed, place, seconds[known])
    return np.asarray(np.divide(total, passed, out=np.full(len(total), np.nan), where=passed > 0))


def _mean(nodes: Sequence[Floats]) -> Floats:
    known = ~np.isnan(nodes)
    count = known.sum(axis=0)
    total = np.where(known, nodes, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
