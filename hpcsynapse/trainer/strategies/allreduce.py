"""Gradients averaged over all ranks by all-reduce before every update."""

from __future__ import annotations

from torch import nn

from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.base import Averager, Optimizer
from hpcsynapse.trainer.strategies.base import GradientStrategy


class AllReduce(GradientStrategy):
    """Every rank makes the same update from the averaged gradients; R ranks x batch B equal one rank x batch R*B."""

    def make_averager(self, model: nn.Module, optimizer: Optimizer, clock: StepClock) -> Averager:
        """Let the engine average, during backward where it can."""
        return self.engine.averager(model, optimizer, clock, self.spec.exchange)
