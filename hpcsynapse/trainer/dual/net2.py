"""The second half: learns the labels from activations, and answers what it would rather have been given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import DualOptions
from hpcsynapse.trainer.dual import targets
from hpcsynapse.trainer.dual.half import Half, Marks
from hpcsynapse.trainer.dual.multipliers import Multipliers
from hpcsynapse.trainer.engines.base import Optimizer
from hpcsynapse.trainer.objective import Objective


class Net2(Half):
    """Learns at the activations it is given and answers nothing: the method `frozen`.

    An exchange is `answer`, after which net1 can go on, then `learn`.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        clock: Marks,
        clip_norm: float | None,
        options: DualOptions,
        objective: Objective,
    ) -> None:
        super().__init__(network, optimizer, clock, clip_norm)
        self.options, self.objective = options, objective

    def loss(self, activation: Tensor, labels: Any) -> Tensor:
        """Return the mean classification loss of a batch."""
        found = self.objective.loss(self.network(activation), labels)
        self.clock.mark("forward")
        return found

    def answer(self, activation: Tensor, labels: Any) -> tuple[Tensor, Tensor | None]:
        """Compute gradients at the activation; return the loss, and what is sent back to net1."""
        loss = self.loss(activation, labels)
        self.backward(loss)
        return loss.detach(), None

    def learn(self, activation: Tensor, labels: Any) -> None:
        """Update with the gradients of `answer`, then make the further local steps."""
        self.apply()
        for _ in range(self.options.net2_steps - 1):
            self.update(self.loss(activation, labels))

    def take(self, indices: Any) -> None:
        """Learn the numbers of the samples that come next."""

    def extra_state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the half itself."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `extra_state` returned."""


class Proposing(Net2):
    """Answers z - a, the way from an activation to its target, as it was before this half's own update: `proximal`."""

    def answer(self, activation: Tensor, labels: Any) -> tuple[Tensor, Tensor | None]:
        """Compute gradients at the activation, and the target; return the loss and the difference."""
        leaf = activation.requires_grad_()
        loss = self.loss(leaf, labels)
        self.backward(loss)
        if leaf.grad is None:
            raise TrainError("the loss of net2 does not depend on the activation that net1 sends")
        slope, leaf.grad = leaf.grad * len(activation), None
        difference = self.difference(activation.detach(), slope, labels)
        leaf.requires_grad_(False)
        return loss.detach(), targets.encode(difference) if self.options.int8_targets else difference

    def difference(self, activation: Tensor, slope: Tensor, labels: Any) -> Tensor:
        """Return how far net1's output is asked to move; `slope` is the gradient of the summed loss at it."""
        return self.target(activation, slope, labels, None) - activation

    def target(self, activation: Tensor, slope: Tensor, labels: Any, multiplier: Tensor | None) -> Tensor:
        """Return z."""
        options = self.options

        def gradient(target: Tensor) -> Tensor:
            leaf = target.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.loss(leaf, labels) * len(leaf), leaf)
            self.clock.mark("backward")
            return found

        return targets.descend(
            activation,
            slope,
            gradient,
            steps=options.target_steps,
            rate=options.target_rate,
            beta=self.beta,
            multiplier=multiplier,
        )


class Multiplying(Proposing):
    """Keeps a multiplier for every training sample: `admm`, the textbook's order z, u, then x = phi.

    The target of phi is z - u with the new u.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        clock: Marks,
        clip_norm: float | None,
        options: DualOptions,
        objective: Objective,
    ) -> None:
        super().__init__(network, optimizer, clock, clip_norm, options, objective)
        self._multipliers = Multipliers()
        self._indices: Any = ()
        self._trained_at: Tensor | None = None

    def take(self, indices: Any) -> None:
        """Learn whose multipliers are needed next."""
        self._indices = indices

    def difference(self, activation: Tensor, slope: Tensor, labels: Any) -> Tensor:
        """Return the way to z - u, and keep u for the next time these samples come."""
        before = self._multipliers.take(self._indices, activation)
        target = self.target(activation, slope, labels, before)
        after = targets.next_multiplier(before, activation, target, self.options.multiplier_damping)
        self._multipliers.put(self._indices, after)
        self._trained_at = target if self.options.train_at == "target" else None
        return target - after - activation

    def learn(self, activation: Tensor, labels: Any) -> None:
        """Make the local steps, at the activation or (which collapses) at its target."""
        if self._trained_at is None:
            super().learn(activation, labels)
            return
        for _ in range(self.options.net2_steps):
            self.update(self.loss(self._trained_at, labels))

    def extra_state(self) -> dict[str, Any]:
        """Return the multipliers."""
        return {"multipliers": self._multipliers.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up the multipliers."""
        self._multipliers.load(state.get("multipliers"), next(self.network.parameters()).device)


class Showing(Net2):
    """Answers what its own first layers make of the activation, before their update: `distance`."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        clock: Marks,
        clip_norm: float | None,
        options: DualOptions,
        objective: Objective,
        bridge: Iterable[nn.Module],
    ) -> None:
        super().__init__(network, optimizer, clock, clip_norm, options, objective)
        self._last = tuple(bridge)[-1]
        self._last.register_forward_hook(self._keep)
        self._shown: Tensor | None = None

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._shown = output.detach().clone()  # what follows may overwrite it

    def answer(self, activation: Tensor, labels: Any) -> tuple[Tensor, Tensor | None]:
        """Compute gradients at the activation; return the loss and the output of the first layers."""
        loss, _ = super().answer(activation, labels)
        return loss, self._shown
