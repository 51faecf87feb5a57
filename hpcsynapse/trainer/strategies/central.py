"""Master all-reduce: gradients summed on rank 0, the update made there, parameters broadcast."""

from __future__ import annotations

from torch import nn

from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.base import Averager, Optimizer
from hpcsynapse.trainer.engines.compression import HALVES
from hpcsynapse.trainer.engines.flat import FlatAverager, flat_parameters
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.strategies.base import GradientStrategy


class Central(GradientStrategy):
    """Rank 0 alone holds optimizer state; the others receive N parameters for the N gradients that they send.

    Equal to `single` with batch R*B, as is `allreduce`. Clipping acts on the averaged gradient.
    """

    communicate = "complete"

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, objective: Objective, clock: StepClock, clip_norm: float | None
    ) -> None:
        """Lay gradients and parameters out in one buffer each; what the other ranks hold after a sum means nothing."""
        super().prepare(model, optimizer, objective, clock, clip_norm if self.engine.rank == 0 else None)
        self._parameters = flat_parameters(self.averager.parameters)

    def make_averager(self, model: nn.Module, optimizer: Optimizer, clock: StepClock) -> Averager:
        """Reduce to rank 0."""
        half = HALVES.get(self.spec.exchange.compression)
        return FlatAverager(model, optimizer, clock, self.engine.reduce_to_root, self.engine.size, half)

    def resume(self, checkpoints: Checkpoints) -> Progress:
        """Take up the newest checkpoint; the other ranks keep nothing of the optimizer's state in it."""
        progress = super().resume(checkpoints)
        if self.engine.rank:
            self.optimizer.state.clear()
        return progress

    def update(self) -> None:
        """Change the parameters on rank 0."""
        if self.engine.rank == 0:
            super().update()

    def after_update(self) -> None:
        """Give everybody the new parameters."""
        self.clock.mark("update")
        for buffer in self._parameters:
            self.engine.broadcast(buffer)
        self.clock.mark("communicate")
