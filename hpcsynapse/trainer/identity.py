"""Who this process is among the ranks, as the launcher's environment says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One rank; without a launcher's variables it is a world of one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    node_rank: int = 0
    nodes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise TrainError(f"RANK={self.rank} does not lie in a world of WORLD_SIZE={self.world_size}")

    @classmethod
    def of_worker(cls, cluster: Cluster, environ: Mapping[str, str] = os.environ) -> Identity:
        """Return worker `task_index`; what the environment does not say follows from neighbours on the same host."""
        hosts = [address.rpartition(":")[0] for address in cluster.workers]
        own, names = hosts[cluster.index], list(dict.fromkeys(hosts))
        neighbours = [index for index, host in enumerate(hosts) if host == own]
        told = {
            "RANK": cluster.index, "WORLD_SIZE": len(hosts), "LOCAL_RANK": neighbours.index(cluster.index),
            "LOCAL_WORLD_SIZE": len(neighbours), "NODE_RANK": names.index(own), "HPCSYNAPSE_NODES": len(names),
        }  # fmt: skip
        found = cls.from_environ({**{key: str(value) for key, value in told.items()}, **environ})
        if (found.rank, found.world_size) != (cluster.index, len(hosts)):
            raise TrainError(
                f"--task-index {cluster.index} of {len(hosts)} workers, but the environment says "
                f"RANK={found.rank} of WORLD_SIZE={found.world_size}"
            )
        return found

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Identity:
        """Read RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, NODE_RANK, HPCSYNAPSE_NODES; raises TrainError."""

        def number(name: str, default: int) -> int:
            text = environ.get(name, "").strip()
            if text and not text.isdecimal():
                raise TrainError(f"{name}={text!r} in the environment is not a number")
            return int(text) if text else default

        world = number("WORLD_SIZE", 1)
        return cls(
            rank=number("RANK", 0),
            world_size=world,
            local_rank=number("LOCAL_RANK", 0),
            local_world_size=number("LOCAL_WORLD_SIZE", 1),
            node_rank=number("NODE_RANK", 0),
            nodes=number("HPCSYNAPSE_NODES", 1),
        )

    def lockstep(self, group: str) -> Identity:
        """Return who this process is among the ranks it makes every step with: `world`, those of its `node`, `rank`."""
        match group:
            case "node":
                return replace(self, rank=self.local_rank, world_size=self.local_world_size, node_rank=0, nodes=1)
            case "rank":
                return replace(self, rank=0, world_size=1, local_rank=0, local_world_size=1, node_rank=0, nodes=1)
        return self
