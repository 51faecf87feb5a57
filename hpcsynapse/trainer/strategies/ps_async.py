"""Parameter servers apply every gradient at once; nobody waits for anybody."""

from __future__ import annotations

from hpcsynapse.trainer.strategies.served import Served


class PsAsync(Served):
    """Each worker pulls, computes and pushes by itself; with N equal workers a gradient is N-1 updates old on average.

    A gradient whose server is lost before it answers is lost with it: the server may have applied a part already.
    """

    @property
    def asynchronous_workers(self) -> int:
        """All of them."""
        return self.world.world_size
