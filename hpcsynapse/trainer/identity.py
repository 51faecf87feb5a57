"""Who this process is among the ranks, as the launcher's environment says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from hpcsynapse.errors import TrainError


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
