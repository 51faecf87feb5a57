"""What a strategy must send over the network, by node: a lower bound that measured traffic is set beside.

All-reduce by a ring, or any other way that is optimal in bandwidth, sends 2 (R-1)/R times the gradients from every
rank; of a ring over the ranks in their order, one link leaves every node. Workers push the gradients of a step to their
parameter servers, and pull as many parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcsynapse.files import read_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import iterate, parts

_HALVES = {"fp16", "bf16"}


@dataclass(frozen=True)
class Predicted:
    """Bytes that a node must send and receive, without headers of any protocol."""

    sent: float = 0.0
    received: float = 0.0


def predicted_traffic(run: RunDirectory) -> dict[str, Predicted]:
    """Return by host what its ranks and servers exchange with other hosts; empty where that is not known."""
    headers = {part.header["rank"]: part.header for part in parts(run.timings)}
    size = next((one.get("gradient_bytes") for one in headers.values()), None)
    if not isinstance(size, (int, float)) or len(headers) < 2:
        return {}
    strategy, *how = str(next(iter(headers.values())).get("strategy", "")).split("+")
    hosts = {rank: str(one.get("host")) for rank, one in headers.items()}
    steps = dict.fromkeys(hosts, 0)
    for header, _ in iterate(run.timings):
        steps[header["rank"]] += 1
    if strategy in ("ps-async", "ps-sync"):
        return _served(run, hosts, steps, float(size))
    if strategy != "allreduce" or set(how) - _HALVES:
        return {}
    share = 0.5 if _HALVES & set(how) else 1.0
    each = 2 * (len(hosts) - 1) / len(hosts) * size * share * max(steps.values())
    return dict.fromkeys(set(hosts.values()), Predicted(each, each)) if len(set(hosts.values())) > 1 else {}


def _served(run: RunDirectory, hosts: Mapping[int, str], steps: Mapping[int, int], size: float) -> dict[str, Predicted]:
    """Return what workers push and pull, shared evenly among servers; what stays on a host counts as nothing."""
    servers = {path.name: str((read_json(path) or {}).get("host")) for path in run.evidence("").glob("*/ps-*.json")}
    found: dict[str, Predicted] = {}
    for rank, host in hosts.items():
        each = size * steps[rank] / max(1, len(servers))
        for other in servers.values():
            for name in (host, other) if other != host else ():
                before = found.get(name, Predicted())
                found[name] = Predicted(before.sent + each, before.received + each)
    return found
