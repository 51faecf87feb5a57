"""All-reduce of gradients and, at times, a broadcast of rank 0's parameters (brain imaging source, 2019)."""

from __future__ import annotations

from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.strategies.allreduce import AllReduce


class AllReduceBroadcast(AllReduce):
    """Removes what ranks have drifted apart by: after a broadcast parameters and buffers are bit-identical.

    `exchange.broadcast_every` counts steps of the whole run, 0 stands for the end of every epoch;
    `exchange.broadcast_optimizer` adds the optimizer's state. A broadcast between epochs belongs to no step and so to
    no step's time.
    """

    _steps = 0

    def resume(self, checkpoints: Checkpoints) -> Progress:
        """Take up the newest checkpoint and count steps from there."""
        progress = super().resume(checkpoints)
        self._steps = progress.step
        return progress

    def after_update(self) -> None:
        """Broadcast after every so many steps."""
        self._steps += 1
        every = self.spec.exchange.broadcast_every
        if every and not self._steps % every:
            self.clock.mark("update")
            self._broadcast()
            self.clock.mark("communicate")

    def after_epoch(self) -> None:
        """Broadcast at the end of an epoch."""
        if not self.spec.exchange.broadcast_every:
            self._broadcast()

    def _broadcast(self) -> None:
        state = self.optimizer if self.spec.exchange.broadcast_optimizer else None
        self.engine.broadcast_state(self.model, state)
