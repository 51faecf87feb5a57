"""Which rank runs where, on which device: laid out before the job, found again inside it, and proven by evidence."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcsynapse.errors import PlacementError
from hpcsynapse.spec import ResourceRequest


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
    resources: ResourceRequest, hosts: Sequence[str] = (), *, servers: int = 0, server_nodes: int = 0,
    port: int | None = None,
) -> Placement:  # fmt: skip
    """Place workers in blocks, node after node, and parameter servers; with fewer GPUs than ranks, neighbours share.

    `hosts` names the nodes in order where they are known already (inside the allocation). Servers are dealt out over
    the `server_nodes` that follow the workers' nodes, or over the workers' nodes where there are none. `port` is the
    first of every host: servers take the first ports and workers the next; where a node has fewer servers than
    others, its workers have the same ports as theirs. Raises PlacementError when ports run out.
    """
    nodes, local_size, gpus = resources.nodes, resources.local_size, resources.gpus
    places = range(nodes, nodes + server_nodes) if server_nodes else range(nodes)
    most = max(1, -(-servers // len(places))) if servers or port is not None else 0
    used: dict[str, int] = {}
    found: list[RankPlacement] = []
    index = 0
    for node in range(nodes + server_nodes):
        host = hosts[node] if hosts else None
        start = None if port is None else port + used.get(host or str(node), 0)
        used[host or str(node)] = used.get(host or str(node), 0) + most + local_size
        if start is not None and start + most + local_size > 65536:
            raise PlacementError(f"the ports of {host} end at {start + most + local_size - 1}, beyond 65535")
        for local in range(_share(servers, places, node)):
            found.append(RankPlacement(
                rank=None, role="ps", task_index=index, node_rank=node, local_rank=local, device=None, host=host,
                port=None if start is None else start + local,
            ))  # fmt: skip
            index += 1
        for local in range(local_size if node < nodes else 0):
            rank = node * local_size + local
            found.append(RankPlacement(
                rank=rank, role="worker", task_index=rank, node_rank=node, local_rank=local,
                device=local * gpus // local_size if gpus else None, host=host,
                port=None if start is None else start + most + local,
            ))  # fmt: skip
    return Placement(ranks=tuple(found))


def _share(servers: int, places: range, node: int) -> int:
    """Return how many of the servers a node holds: the first of `places` take the remainder."""
    if node not in places:
        return 0
    return servers // len(places) + (places.index(node) < servers % len(places))


def task_geometry(placement: Placement) -> str | None:
    """Return an uneven placement as LoadLeveler writes it, `{(0,1,2) (3)}`: one group a node; None for an even one."""
    groups: dict[int, list[str]] = {}
    for rank in placement.ranks:
        if rank.rank is not None:
            groups.setdefault(rank.node_rank, []).append(str(rank.rank))
    if len({len(group) for group in groups.values()}) == 1:
        return None
    return "{" + " ".join(f"({','.join(groups[node])})" for node in sorted(groups)) + "}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankIdentity:
    """Who a process is in the world that its launcher started."""

    rank: int
    world_size: int
    local_rank: int
    local_size: int
    node_rank: int
    source: str


# Neutral names -> the variables of each system, most specific first: inside `sbatch`, a process that mpirun started
# also sees the batch step's SLURM_PROCID=0, and a torchrun worker also sees those of srun. Open MPI's NODE_RANK and
# Horovod's CROSS_RANK count something else than nodes.
_VARIABLES: dict[str, dict[str, str]] = {
    "torchrun": {
        "marker": "TORCHELASTIC_RUN_ID", "rank": "RANK", "world_size": "WORLD_SIZE", "local_rank": "LOCAL_RANK",
        "node_rank": "GROUP_RANK",
    },
    "horovodrun": {
        "marker": "HOROVOD_RANK", "rank": "HOROVOD_RANK", "world_size": "HOROVOD_SIZE",
        "local_rank": "HOROVOD_LOCAL_RANK",
    },
    "local": {
        "marker": "HPCSYNAPSE_LAUNCH_RANK", "rank": "HPCSYNAPSE_LAUNCH_RANK", "world_size": "HPCSYNAPSE_LAUNCH_SIZE",
        "local_rank": "HPCSYNAPSE_LAUNCH_RANK",
    },
    "greasy": {
        "marker": "HPCSYNAPSE_TASK_RANK", "rank": "HPCSYNAPSE_TASK_RANK", "world_size": "HPCSYNAPSE_TASK_RANKS",
        "local_rank": "HPCSYNAPSE_TASK_LOCAL_RANK", "node_rank": "HPCSYNAPSE_TASK_NODE",
    },
    "openmpi": {
        "marker": "OMPI_COMM_WORLD_RANK", "rank": "OMPI_COMM_WORLD_RANK", "world_size": "OMPI_COMM_WORLD_SIZE",
        "local_rank": "OMPI_COMM_WORLD_LOCAL_RANK",
    },
    "hydra": {
        "marker": "MPI_LOCALRANKID", "rank": "PMI_RANK", "world_size": "PMI_SIZE", "local_rank": "MPI_LOCALRANKID",
    },
    "poe": {"marker": "MP_CHILD", "rank": "MP_CHILD", "world_size": "MP_PROCS"},
    "slurm": {
        "marker": "SLURM_STEP_NUM_TASKS", "rank": "SLURM_PROCID", "world_size": "SLURM_STEP_NUM_TASKS",
        "local_rank": "SLURM_LOCALID", "node_rank": "SLURM_NODEID",
    },
}  # fmt: skip


def discover(environ: Mapping[str, str], resources: ResourceRequest, *, emulate: bool = False) -> RankIdentity:
    """Return this process's identity from the variables of whatever launched it.

    A process that no launcher started is a world of one; with `emulate` all nodes are this one, so local and node
    rank are counted off. Raises PlacementError when the variables of a launcher are incomplete, or when the world is
    not the one that was asked for: training must not go on alone.
    """
    local_size = resources.local_size
    for source, names in _VARIABLES.items():
        if names["marker"] not in environ:
            continue
        rank, world = _number(environ, names["rank"], source), _number(environ, names["world_size"], source)
        counted = emulate or "local_rank" not in names  # poe tells no local rank; tasks of a node are neighbours
        local = rank % local_size if counted else _number(environ, names["local_rank"], source)
        counted = emulate or "node_rank" not in names  # launchers here fill one node after the other
        node = rank // local_size if counted else _number(environ, names["node_rank"], source)
        found = RankIdentity(
            rank=rank, world_size=world, local_rank=local, local_size=local_size, node_rank=node, source=source
        )
        break
    else:
        found = RankIdentity(rank=0, world_size=1, local_rank=0, local_size=1, node_rank=0, source="none")
    if found.world_size != resources.world_size:
        raise PlacementError(
            f"{resources.world_size} ranks were asked for, but {found.source} started a world of {found.world_size}; "
            "check that launcher, MPI library and job agree (srun --mpi, mpirun of another MPI)"
        )
    return found


def _number(environ: Mapping[str, str], name: str, source: str) -> int:
    try:
        return int(environ[name])
    except (KeyError, ValueError):
        raise PlacementError(f"{source}: {name} = {environ.get(name)!r} is not a rank or a count") from None


def granted_devices(environ: Mapping[str, str], gpus: int, installed: Sequence[str] = ()) -> list[str]:
    """Return the devices the scheduler granted on this node, as CUDA_VISIBLE_DEVICES names them.

    Numbers, UUIDs and MIG names all occur. Without the variable, Slurm's own list, then the machine's devices, then
    0..gpus-1 are taken. An empty or `NoDevFiles` value means that nothing was granted.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip() not in ("", "NoDevFiles", "-1")]
    for name in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        if environ.get(name):
            return [device.strip() for device in environ[name].split(",")]
    return list(installed[:gpus]) if installed else [str(index) for index in range(gpus)]


def pick_device(granted: Sequence[str], identity: RankIdentity, gpus: int) -> str | None:
    """Return the device of this rank among those granted: number local_rank, never of the machine.

    Raises PlacementError when fewer devices were granted than asked for.
    """
    if not gpus:
        return None
    if len(granted) == 1 and gpus > 1:
        return granted[0]  # the queue isolated this task already; the evidence shows whether ranks share it
    index = identity.local_rank * gpus // identity.local_size
    if index >= len(granted):
        raise PlacementError(
            f"rank {identity.rank} (local rank {identity.local_rank}) needs device number {index}, "
            f"but the queue granted only {','.join(granted) or 'none'} on this node"
        )
    return granted[index]


def verify(evidence: Iterable[Mapping[str, Any]], *, world_size: int, share_devices: bool) -> None:
    """Check what all ranks reported of themselves before the first step.

    Raises PlacementError that names ranks and hosts for: missing or double ranks, two ranks on one device, a rank on
    a device that was not granted, ranks confined to the same single core.
    """
    by_rank: dict[int, Mapping[str, Any]] = {}
    for item in evidence:
        rank = int(item["rank"])
        if rank in by_rank:
            raise PlacementError(f"rank {rank} exists twice: on {by_rank[rank]['host']} and on {item['host']}")
        by_rank[rank] = item
    missing = sorted(set(range(world_size)) - set(by_rank))
    if missing or len(by_rank) != world_size:
        raise PlacementError(f"{len(by_rank)} of {world_size} ranks reported; missing: {_short(missing)}")
    for item in by_rank.values():
        granted = item.get("granted") or []
        if item.get("device") is not None and item["device"] not in granted:
            raise PlacementError(
                f"rank {item['rank']} on {item['host']} uses device {item['device']}, granted were {','.join(granted)}"
            )
    if share_devices:
        return
    _refuse_shared(by_rank, "device", lambda item: item.get("device_uuid") or item.get("device"))
    _refuse_shared(by_rank, "core", lambda item: item["cpus"][0] if len(item.get("cpus") or []) == 1 else None)


def _refuse_shared(by_rank: Mapping[int, Mapping[str, Any]], what: str, key: Any) -> None:
    owners: dict[tuple[str, Any], int] = {}
    for rank, item in sorted(by_rank.items()):
        value = key(item)
        if value is None:
            continue
        other = owners.setdefault((str(item["host"]), value), rank)
        if other != rank:
            raise PlacementError(
                f"ranks {other} and {rank} on {item['host']} share {what} {value}; "
                "ask for one each, or allow it with --share-devices"
            )


def _short(ranks: Sequence[int]) -> str:
    text = ", ".join(str(rank) for rank in ranks[:8])
    return text + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")


def evidence_of_this_process(identity: RankIdentity, granted: Sequence[str], device: str | None) -> dict[str, Any]:
    """Return where this process really runs: host, pid, CPU mask, NUMA nodes, device with UUID and PCI id by NVML."""
    import socket

    cpus = sorted(os.sched_getaffinity(0))
    return {
        "rank": identity.rank, "local_rank": identity.local_rank, "node_rank": identity.node_rank,
        "world_size": identity.world_size, "source": identity.source, "host": socket.gethostname(), "pid": os.getpid(),
        "cpus": cpus, "numa_nodes": _numa_nodes(cpus), "granted": list(granted), "device": device,
        **_nvml_facts(device),
    }  # fmt: skip


def _numa_nodes(cpus: Iterable[int]) -> list[int]:
    from pathlib import Path

    nodes = set()
    for cpu in cpus:
        for link in Path(f"/sys/devices/system/cpu/cpu{cpu}").glob("node[0-9]*"):
            nodes.add(int(link.name[4:]))
    return sorted(nodes)


def _nvml_facts(device: str | None) -> dict[str, str]:
    """Return UUID, PCI id and name of a device; nothing where there is no GPU, driver or pynvml."""
    if device is None:
        return {}
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        handle = (
            pynvml.nvmlDeviceGetHandleByIndex(int(device)) if device.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(device)
        )  # fmt: skip
        facts = {
            "device_uuid": pynvml.nvmlDeviceGetUUID(handle),
            "pci": pynvml.nvmlDeviceGetPciInfo(handle).busId,
            "device_name": pynvml.nvmlDeviceGetName(handle),
        }
        return {key: value.decode() if isinstance(value, bytes) else str(value) for key, value in facts.items()}
    except pynvml.NVMLError:
        return {}
