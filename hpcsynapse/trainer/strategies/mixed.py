"""All-reduce inside a node, parameter servers between nodes."""

from __future__ import annotations

from hpcsynapse.trainer.strategies.served import Served


class Mixed(Served):
    """The ranks of a node average their gradients; the node's first rank pushes the mean and pulls for all of them.

    Between nodes it is ps-async, with the nodes as its workers. A rank that dies ends its node and no other.
    """

    lockstep = "node"

    @property
    def communicate(self) -> str:
        """The phase holds what of the node's all-reduce did not overlap with backward, and all of push and pull."""
        return "exposed"

    @property
    def worker(self) -> tuple[int, int]:
        """Which node this is, of so many."""
        return self.world.node_rank, self.world.nodes

    @property
    def asynchronous_workers(self) -> int:
        """The nodes."""
        return self.world.nodes
