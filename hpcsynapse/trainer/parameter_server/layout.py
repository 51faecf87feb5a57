"""All trainable parameters as one vector of float32, and which part of it each server holds."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import TrainSpec


def part(elements: int, server: int, servers: int) -> range:
    """Return the elements that a server holds: shares differ by one element at most."""
    return range(elements * server // servers, elements * (server + 1) // servers)


def digest(parameters: list[nn.Parameter], train: TrainSpec) -> bytes:
    """Return 32 bytes that differ between models of different shapes, and between settings of the optimizer."""
    shapes = [list(parameter.shape) for parameter in parameters]
    rule = [train.optimizer, train.momentum, train.nesterov, train.weight_decay]
    return hashlib.sha256(json.dumps([shapes, rule]).encode()).digest()


class FlatModel:
    """A worker's parameters as views of one vector, and buffers on the CPU from and to which everything travels.

    On the CPU the vector itself is what is received into. Raises TrainError for parameters that are not float32.
    """

    def __init__(self, model: nn.Module, train: TrainSpec) -> None:
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.dtype != torch.float32:
                raise TrainError(f"parameter servers hold float32, but {name} of {train.model!r} is {parameter.dtype}")
        self.digest = digest(self.parameters, train)
        self.elements = sum(parameter.numel() for parameter in self.parameters)
        device = self.parameters[0].device
        self.vector = torch.zeros(self.elements, device=device)
        position = 0
        for parameter in self.parameters:
            view = self.vector[position : position + parameter.numel()].view(parameter.shape)
            view.copy_(parameter.detach())
            parameter.data = view
            position += parameter.numel()
        cuda = device.type == "cuda"
        self._values = torch.zeros(self.elements, pin_memory=True) if cuda else self.vector
        self._gradient = torch.zeros(self.elements, pin_memory=cuda)
        self._staging = torch.zeros(self.elements, device=device) if cuda else self._gradient

    @property
    def values(self) -> memoryview:
        """The parameters' bytes as they are sent and received."""
        return as_bytes(self._values)

    @property
    def gradient(self) -> memoryview:
        """The gradient's bytes as they are sent."""
        return as_bytes(self._gradient)

    def gather(self) -> None:
        """Bring the gradients of all parameters into the buffer that is sent; one that has none counts as zero."""
        pieces = [
            torch.zeros_like(parameter).reshape(-1) if parameter.grad is None else parameter.grad.reshape(-1)
            for parameter in self.parameters
        ]
        torch.cat(pieces, out=self._staging)
        if self._staging is not self._gradient:
            self._gradient.copy_(self._staging)

    def fetch(self) -> None:
        """Bring the parameters into the buffer from which they are given away."""
        if not self._shared:
            self._values.copy_(self.vector)

    def place(self) -> None:
        """Bring what was received to where the model is."""
        if not self._shared:
            self.vector.copy_(self._values)

    @property
    def _shared(self) -> bool:
        return self.vector.device.type == "cpu"


def as_bytes(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor on the CPU, not a copy of it."""
    array: Any = tensor.detach().numpy()
    return memoryview(array).cast("B")
