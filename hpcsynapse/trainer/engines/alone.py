"""A world of one rank, where every exchange is done before it begins."""

from __future__ import annotations

from torch import Tensor, nn

from hpcsynapse.spec.training import ExchangeOptions
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.base import PLAIN, Averager, Engine, Optimizer


class LocalAverager(Averager):
    """Leaves the gradients of the only rank as they are."""

    def finish(self) -> None:
        """Mark the end of backward."""
        self.clock.mark("backward")


class AloneEngine(Engine):
    """The engine of the strategy `single`."""

    name = "none"
    communicate = "none"

    def start(self) -> None:
        """Check that there is one rank; raises TrainError."""
        self.check_world(0, 1, "strategy single runs one rank")

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        """Do nothing: the sum over one rank."""

    def broadcast(self, tensor: Tensor) -> None:
        """Do nothing."""

    def averager(
        self, model: nn.Module, optimizer: Optimizer, clock: StepClock, options: ExchangeOptions = PLAIN
    ) -> Averager:
        """Return what leaves gradients alone."""
        return LocalAverager(model, optimizer, clock)
