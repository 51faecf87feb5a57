"""Which rank runs where, on which device: laid out before the job, found again inside it, and proven by evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hpcsynapse.errors import PlacementError
from hpcsynapse.spec.resources import ResourceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlacement:
    """One process of the run: `device` is an index into what the node was granted, None without a GPU.

    Parameter servers (role `ps`) have no rank, and no device.
    """

    rank: int | None
    role: str
    task_index: int
    node_rank: int
    local_rank: int
    device: int | None
    host: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """All processes of a run, node by node."""

    ranks: tuple[RankPlacement, ...]

    def on_node(self, node_rank: int) -> tuple[RankPlacement, ...]:
        """Return the processes of one node in local order, servers first."""
        return tuple(rank for rank in self.ranks if rank.node_rank == node_rank)


def lay_out(
    resources: ResourceRequest,
    hosts: Sequence[str] = (),
    *,
    servers: int = 0,
    server_nodes: int = 0,
    port: int | None = None,
) -> Placement:
    """Place workers in blocks, node after node, and parameter servers; with fewer GPUs than ranks, neighbours share.

    `hosts` names the nodes in order where they are known already (inside the allocation). Servers are dealt out over
    the `server_nodes` that follow the workers' nodes, or over the workers' nodes where there are none. `port` is the
    first of every host: servers take the first ports and workers the next; where a node has fewer servers than
    others, its workers have the same ports as theirs. A node for one role alone has its first port on. Raises
    PlacementError when ports run out.
    """
    nodes, local_size = resources.nodes, resources.local_size
    places = range(nodes, nodes + server_nodes) if server_nodes else range(nodes)
    most = max(1, -(-servers // len(places)))
    used: Counter[str] = Counter()
    found: list[RankPlacement] = []
    index = 0
    for node in range(nodes + server_nodes):
        host = hosts[node] if hosts else None
        reserved, workers = most if node in places else 0, local_size if node < nodes else 0
        start = None if port is None else _first_port(port + used[host or str(node)], reserved + workers, host)
        used[host or str(node)] += reserved + workers
        share = _share(servers, places, node)
        found += [_server(index + local, node, local, host, start) for local in range(share)]
        index += share
        if node < nodes:
            first = None if start is None else start + reserved
            found += [_worker(resources, node, local, host, first) for local in range(workers)]
    return Placement(ranks=tuple(found))


def _first_port(start: int, count: int, host: str | None) -> int:
    """Return the first of so many ports of a host; raises PlacementError when they run out."""
    if start + count > 65536:
        raise PlacementError(f"the ports of {host} end at {start + count - 1}, beyond 65535")
    return start


def _server(index: int, node: int, local: int, host: str | None, first: int | None) -> RankPlacement:
    """Return a parameter server of a node, whose servers have the ports from the first on."""
    return RankPlacement(
        rank=None,
        role="ps",
        task_index=index,
        node_rank=node,
        local_rank=local,
        device=None,
        host=host,
        port=None if first is None else first + local,
    )


def _worker(resources: ResourceRequest, node: int, local: int, host: str | None, first: int | None) -> RankPlacement:
    """Return a rank that trains, on a node whose workers have the ports from the first on."""
    local_size, gpus = resources.local_size, resources.gpus
    rank = node * local_size + local
    return RankPlacement(
        rank=rank,
        role="worker",
        task_index=rank,
        node_rank=node,
        local_rank=local,
        device=local * gpus // local_size if gpus else None,
        host=host,
        port=None if first is None else first + local,
    )


def _share(servers: int, places: range, node: int) -> int:
    """Return how many of the servers a node holds: the first of `places` take the remainder."""
    if node not in places:
        return 0
    return servers // len(places) + (places.index(node) < servers % len(places))
