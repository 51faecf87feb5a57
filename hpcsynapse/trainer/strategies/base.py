"""What a strategy is: one training step and the communication that belongs to it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hpcsynapse.trainer.clock import StepClock, StepResult
from hpcsynapse.trainer.engines.alone import LocalAverager
from hpcsynapse.trainer.engines.base import Averager, Engine, Optimizer
from hpcsynapse.trainer.objective import Objective


class Strategy(ABC):
    """Owns model and optimizer for the length of a run; the loop calls `step` and nothing else in between."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    model: nn.Module
    optimizer: Optimizer

    @abstractmethod
    def prepare(
        self, model: nn.Module, optimizer: Optimizer, objective: Objective, clock: StepClock, clip_norm: float | None
    ) -> None:
        """Take model and optimizer; afterwards `optimizer` is the one whose state is saved and restored."""

    @abstractmethod
    def step(self, inputs: Tensor, targets: Tensor) -> StepResult:
        """Train on one batch of this rank; marks the phases from `forward` to `update`."""

    def close(self) -> None:  # noqa: B027 - most strategies have nothing to end
        """End what the strategy began; every rank calls it at the end of a run that succeeded."""


class GradientStrategy(Strategy):
    """Forward, backward, update on every rank; strategies differ in the hooks between."""

    averager: Averager

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, objective: Objective, clock: StepClock, clip_norm: float | None
    ) -> None:
        """Keep the parts and let the strategy choose how gradients are averaged."""
        self.model, self.objective, self.clock, self.clip_norm = model, objective, clock, clip_norm
        self.averager = self.make_averager(model, optimizer, clock)
        self.optimizer = self.averager.optimizer

    def make_averager(self, model: nn.Module, optimizer: Optimizer, clock: StepClock) -> Averager:
        """Return what finishes the gradients after backward; by default they stay those of this rank."""
        return LocalAverager(model, optimizer, clock)

    def step(self, inputs: Tensor, targets: Tensor) -> StepResult:
        """Make one step."""
        averager, clock = self.averager, self.clock
        averager.zero()
        loss = self.objective.loss(averager.module(inputs), targets)
        clock.mark("forward")
        loss.backward()  # type: ignore[no-untyped-call]
        self.after_backward()
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(averager.parameters, self.clip_norm)
        averager.update()
        self.after_update()
        clock.mark("update")
        return StepResult(loss.detach(), len(targets))

    def after_backward(self) -> None:
        """Finish the gradients: average them, or reduce them to one rank."""
        self.averager.finish()

    def after_update(self) -> None:
        """Do what follows the update, such as a broadcast of parameters; by default nothing."""
