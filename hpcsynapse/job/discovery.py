"""Who a process is in the world that its launcher started, read from that launcher's variables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hpcsynapse.errors import PlacementError
from hpcsynapse.spec.names import QUEUES
from hpcsynapse.spec.resources import ResourceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RankIdentity:
    """Who a process is in the world that its launcher started; by default a world of one.

    `source` names the launcher whose variables said so. Raises PlacementError for a rank outside its world.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1
    node_rank: int = 0
    nodes: int = 1
    source: str = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise PlacementError(f"RANK={self.rank} does not lie in a world of WORLD_SIZE={self.world_size}")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> RankIdentity:
        """Read the neutral variables that every rank of a job is given; without them it is a world of one.

        These are RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, NODE_RANK and HPCSYNAPSE_NODES. Raises PlacementError
        for one that is no number.
        """
        return cls(
            rank=_neutral(environ, "RANK", 0),
            world_size=_neutral(environ, "WORLD_SIZE", 1),
            local_rank=_neutral(environ, "LOCAL_RANK", 0),
            local_size=_neutral(environ, "LOCAL_WORLD_SIZE", 1),
            node_rank=_neutral(environ, "NODE_RANK", 0),
            nodes=_neutral(environ, "HPCSYNAPSE_NODES", 1),
        )

    def neutral_variables(self) -> dict[str, str]:
        """Return the variables that `from_environ` reads, and torch's own name of the node's rank."""
        values = {
            "RANK": self.rank,
            "WORLD_SIZE": self.world_size,
            "LOCAL_RANK": self.local_rank,
            "LOCAL_WORLD_SIZE": self.local_size,
            "NODE_RANK": self.node_rank,
            "GROUP_RANK": self.node_rank,
            "HPCSYNAPSE_NODES": self.nodes,
        }
        return {name: str(value) for name, value in values.items()}

    def lockstep(self, group: str) -> RankIdentity:
        """Return who this process is among the ranks it makes every step with: `world`, those of its `node`, `rank`."""
        match group:
            case "node":
                return replace(self, rank=self.local_rank, world_size=self.local_size, node_rank=0, nodes=1)
            case "rank":
                return replace(self, rank=0, world_size=1, local_rank=0, local_size=1, node_rank=0, nodes=1)
        return self


def _neutral(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    if text and not text.isdecimal():
        raise PlacementError(f"{name}={text!r} in the environment is not a number")
    return int(text) if text else default


# Neutral names -> the variables of each launcher, most specific first: a torchrun worker also sees those of what
# started its agent. Open MPI's NODE_RANK and Horovod's CROSS_RANK count something else than nodes.
_LAUNCHERS: dict[str, dict[str, str]] = {
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
}  # fmt: skip  # a table


def _variables() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the table's rows, then those of queues that start ranks themselves.

    In a queue's batch script, a process that mpirun has started sees the rank of that script too, which is always 0.
    """
    yield from _LAUNCHERS.items()
    yield from ((name, queue.rank) for name, queue in QUEUES.items() if queue.rank)


def rank_told(environ: Mapping[str, str]) -> int:
    """Return the rank that any launcher's variables name, else 0: for messages where the identity is unclear."""
    told = (environ.get(names["rank"], "") for _, names in _variables())
    return next((int(text) for text in told if text.isdecimal()), 0)


def discover(environ: Mapping[str, str], resources: ResourceRequest, *, emulate: bool = False) -> RankIdentity:
    """Return this process's identity from the variables of whatever launched it.

    A process that no launcher started is a world of one; with `emulate` all nodes are this one, so local and node
    rank are counted off. Raises PlacementError when the variables of a launcher are incomplete, or when the world is
    not the one that was asked for: training must not go on alone.
    """
    local_size = resources.local_size
    for source, names in _variables():
        if names["marker"] not in environ:
            continue
        rank, world = _number(environ, names["rank"], source), _number(environ, names["world_size"], source)
        counted = emulate or "local_rank" not in names  # poe tells no local rank; tasks of a node are neighbours
        local = rank % local_size if counted else _number(environ, names["local_rank"], source)
        counted = emulate or "node_rank" not in names  # launchers here fill one node after the other
        node = rank // local_size if counted else _number(environ, names["node_rank"], source)
        if not 0 <= rank < world:
            raise PlacementError(f"{source} started rank {rank} of a world of {world}")
        found = RankIdentity(
            rank=rank,
            world_size=world,
            local_rank=local,
            local_size=local_size,
            node_rank=node,
            nodes=resources.nodes,
            source=source,
        )
        break
    else:
        found = RankIdentity(nodes=resources.nodes)
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
