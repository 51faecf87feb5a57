"""What both halves of a cut network share: parameters, their optimizer, and one update."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hpcsynapse.trainer.engines.base import Optimizer


class Marks(Protocol):
    """What times the phases of a step, such as StepClock."""

    def mark(self, phase: str, stamp: Any = None) -> None:
        """Give the time since the last mark to a phase."""
        ...


class Half:
    """One half of the network with its optimizer; `beta` weighs the distance between activation and target."""

    def __init__(self, network: nn.Module, optimizer: Optimizer, clock: Marks, clip_norm: float | None) -> None:
        self.network, self.optimizer, self.clock, self.clip_norm = network, optimizer, clock, clip_norm
        self.beta = 1.0

    def update(self, loss: Tensor, gradient: Tensor | None = None) -> Tensor:
        """Make an optimizer step on a loss, or on an output whose gradient is given; return it without its graph."""
        self.backward(loss, gradient)
        self.apply()
        return loss.detach()

    def backward(self, loss: Tensor, gradient: Tensor | None = None) -> None:
        """Compute the gradients of a loss, or of whatever has this gradient at an output."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward(gradient)  # type: ignore[no-untyped-call]
        self.clock.mark("backward")

    def apply(self) -> None:
        """Let the optimizer make its step, with the norm of this half's gradient clipped where that is asked for."""
        if self.clip_norm is not None:
            parameters = (part for group in self.optimizer.param_groups for part in group["params"])
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.optimizer.step()
        self.clock.mark("update")
