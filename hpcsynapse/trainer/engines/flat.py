"""Many tensors in one buffer, so that one call exchanges them all and nothing is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.base import Averager, Optimizer
from hpcsynapse.trainer.engines.compression import average


def flat_gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Return one zeroed buffer per type; the gradients become views of it, into which backward adds."""
    buffers = []
    for group in _by_type(parameters):
        buffer = torch.zeros(sum(map(Tensor.numel, group)), dtype=group[0].dtype, device=group[0].device)
        for parameter, view in zip(group, _views(buffer, group), strict=True):
            parameter.grad = view
        buffers.append(buffer)
    return buffers


def flat_parameters(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Return one buffer per type that holds the parameters, which become views of it."""
    buffers = []
    for group in _by_type(parameters):
        buffer = torch.empty(sum(map(Tensor.numel, group)), dtype=group[0].dtype, device=group[0].device)
        for parameter, view in zip(group, _views(buffer, group), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view
        buffers.append(buffer)
    return buffers


def _by_type(parameters: Iterable[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    groups: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.dtype, []).append(parameter)
    return groups.values()


def _views(buffer: Tensor, group: Iterable[Tensor]) -> Iterable[Tensor]:
    """Yield the part of the buffer that belongs to each tensor, in the tensor's own layout where it has no gaps."""
    position = 0
    for tensor in group:
        pairs = list(zip(tensor.shape, tensor.stride(), strict=True))
        dense = 1 + sum((size - 1) * stride for size, stride in pairs) == tensor.numel()
        part = buffer[position : position + tensor.numel()]
        yield part.as_strided(tensor.shape, tensor.stride()) if dense else part.view(tensor.shape)
        position += tensor.numel()


class FlatAverager(Averager):
    """Exchanges all gradients after backward; nothing overlaps.

    `exchange` sums a tensor over `ranks` ranks in place, on all of them or on one.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        clock: StepClock,
        exchange: Callable[[Tensor], None],
        ranks: int,
        half: torch.dtype | None = None,
    ) -> None:
        super().__init__(model, optimizer, clock)
        self._exchange, self._ranks, self._half = exchange, ranks, half
        self._buffers = flat_gradients(self.parameters)

    def zero(self) -> None:
        """Set all gradients to zero in place."""
        for buffer in self._buffers:
            buffer.zero_()

    def finish(self) -> None:
        """Average all gradients."""
        self.clock.mark("backward")
        for buffer in self._buffers:
            average(buffer, self._ranks, self._exchange, self._half)
        self.clock.mark("communicate")
