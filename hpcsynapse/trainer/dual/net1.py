"""The first half: computes activations, and learns from what the second half answers."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hpcsynapse.spec.training import DualOptions
from hpcsynapse.trainer.dual import targets
from hpcsynapse.trainer.dual.half import Half, Marks
from hpcsynapse.trainer.engines.base import Optimizer


@dataclass(frozen=True, slots=True)
class SentBatch:
    """One batch that was sent: its inputs, the activation as net2 sees it, and the output with its graph, if kept."""

    inputs: Tensor
    activation: Tensor
    output: Tensor | None = None


class Net1(Half):
    """Computes activations and never learns: the method `frozen`, the honest baseline of the others."""

    answered = False
    keeps_graph = False

    def forward(self, inputs: Tensor) -> SentBatch:
        """Compute the activation of a batch."""
        with torch.set_grad_enabled(self.keeps_graph):
            output = self.network(inputs)
        self.clock.mark("forward")
        return SentBatch(inputs, output.detach(), output if self.keeps_graph else None)

    def learn(self, sent: SentBatch, answer: Tensor) -> Tensor:
        """Update from the answer to a batch and return the loss before the first update."""
        raise NotImplementedError

    def extra_state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the half itself."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `extra_state` returned; what is missing stays as it begins."""


class Regressing(Net1):
    """Learns to give the activations that net2 would rather have had: `proximal` and `admm`."""

    answered = True

    def __init__(
        self, network: nn.Module, optimizer: Optimizer, clock: Marks, clip_norm: float | None, options: DualOptions
    ) -> None:
        super().__init__(network, optimizer, clock, clip_norm)
        self._options = options
        self.keeps_graph = not options.one_batch_late  # later it would be that of parameters that have changed

    def learn(self, sent: SentBatch, answer: Tensor) -> Tensor:
        """Make the local steps towards the target."""
        options, output, losses = self._options, sent.output, []
        difference = targets.decode(answer, sent.activation) if options.int8_targets else answer
        for left in reversed(range(options.net1_steps)):
            if output is None:
                output = self.network(sent.inputs)
                self.clock.mark("forward")
            way = difference.clone() if left else difference
            loss, gradient = targets.regression(output, sent.activation, way, self.beta)
            self.update(output, gradient)
            losses.append(loss)
            output = None
        return losses[0]


class Matching(Net1):
    """Learns to give, behind a copy of net2's first layers, what they give at net2: `distance`, the source's method.

    The copy is trained by the same distance and belongs to no checkpointed model. It begins with the same numbers in
    another order, as if it was drawn for itself like the source's (which collapses), or equal to the original.
    """

    answered = True
    keeps_graph = True

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        clock: Marks,
        clip_norm: float | None,
        options: DualOptions,
        bridge: Iterable[nn.Module],
        seed: int,
    ) -> None:
        super().__init__(network, optimizer, clock, clip_norm)
        self._norm = options.norm
        self.copy = nn.Sequential(*(copy.deepcopy(layer) for layer in bridge))
        if options.copy_start == "drawn":
            shuffle(self.copy, seed)
        optimizer.add_param_group({"params": [part for part in self.copy.parameters() if part.requires_grad]})

    def learn(self, sent: SentBatch, answer: Tensor) -> Tensor:
        """Make one step on the distance."""
        own = self.copy(sent.output)
        self.clock.mark("forward")
        return self.update(targets.distance(own, answer, self._norm))

    def extra_state(self) -> dict[str, Any]:
        """Return the copy."""
        return {"copy": self.copy.state_dict()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up the copy."""
        if "copy" in state:
            self.copy.load_state_dict(state["copy"])


@torch.no_grad()
def shuffle(network: nn.Module, seed: int) -> None:
    """Put the numbers of every parameter in another order: a new draw from whatever they were drawn from."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.reshape(-1)[order].view_as(parameter))
