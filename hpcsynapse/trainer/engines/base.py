"""What an engine offers: a world of ranks, a sum over them, a broadcast, and the average of gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.spec.training import ExchangeOptions
from hpcsynapse.trainer.clock import StepClock

Optimizer = torch.optim.Optimizer
PLAIN = ExchangeOptions()
_PIECE = 64 * 1024**2  # bytes that are broadcast at once


class Averager(ABC):
    """Averages the gradients of one model over all ranks, beginning during backward where the engine can."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, clock: StepClock) -> None:
        self.module, self.optimizer, self.clock = model, optimizer, clock
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def zero(self) -> None:
        """Forget the gradients of the last step."""
        for parameter in self.parameters:
            parameter.grad = None

    def local(self) -> AbstractContextManager[None]:
        """Return a context in which forward and backward add to this rank's gradients, and nothing is exchanged."""
        return nullcontext()

    @abstractmethod
    def finish(self) -> None:
        """Return when gradients are averaged; marks the phases `backward` and `communicate`."""

    def update(self, scaler: Any = None) -> None:
        """Let the optimizer make its step; a GradScaler decides whether it does."""
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)


class Engine(ABC):
    """One way to move numbers between ranks.

    `start_limit` and `wait_limit` (seconds) bound how long starting and any single exchange may take.
    """

    name = ""
    communicate = "exposed"  # what the phase `communicate` holds: what did not overlap with backward, or `complete`

    def __init__(self, identity: RankIdentity, device: torch.device, start_limit: float, wait_limit: float) -> None:
        self.identity, self.device = identity, device
        self.start_limit, self.wait_limit = start_limit, wait_limit
        self.controller = ""

    @property
    def rank(self) -> int:
        """This rank."""
        return self.identity.rank

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.identity.world_size

    @abstractmethod
    def start(self) -> None:
        """Meet the other ranks; raises TrainError when they do not come or the world is of another size."""

    @abstractmethod
    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        """Replace a contiguous tensor by its `sum` or `max` over all ranks."""

    @abstractmethod
    def broadcast(self, tensor: Tensor) -> None:
        """Replace a contiguous tensor by that of rank 0."""

    @abstractmethod
    def averager(
        self, model: nn.Module, optimizer: Optimizer, clock: StepClock, options: ExchangeOptions = PLAIN
    ) -> Averager:
        """Return what averages the gradients of this model; JobSpec has checked that the engine knows the options."""

    def reduce_to_root(self, tensor: Tensor) -> None:
        """Replace a contiguous tensor on rank 0 by its sum over all ranks; elsewhere it is undefined afterwards."""
        raise TrainError(f"engine {self.name} does not reduce to one rank; use --engine ddp or --engine mpi")

    def begin_all_reduce(self, tensor: Tensor) -> Callable[[], object]:
        """Begin to replace a tensor by its sum over all ranks; what is returned waits until that is done."""
        raise TrainError(f"engine {self.name} sums nothing in the background; use --engine ddp, or leave --overlap out")

    def send(self, data: Tensor, rank: int) -> Callable[[], object]:
        """Begin to send bytes (uint8, host memory) to one rank; what is returned waits until they may change."""
        raise TrainError(f"engine {self.name} sends nothing to one rank alone; use --engine ddp or --engine mpi")

    def receive(self, data: Tensor, rank: int, limit: float) -> None:
        """Fill bytes (uint8, host memory) with what one rank sends, in the order of its sends.

        Raises TrainError naming that rank when it is gone, or has sent nothing within `limit` seconds.
        """
        raise TrainError(f"engine {self.name} receives nothing from one rank alone; use --engine ddp or --engine mpi")

    def close(self) -> None:  # noqa: B027 - most engines have nothing to leave
        """Leave the world; every rank calls it at the end of a run that succeeded."""

    def check_world(self, rank: int, size: int, hint: str) -> None:
        """Raise TrainError unless the engine's own rank and size are those that the launcher gave."""
        if size != self.size:
            found = "a world of one" if size == 1 else f"a world of {size}"
            raise TrainError(f"engine {self.name} came up as {found} where {self.size} ranks were asked for: {hint}")
        if rank != self.rank:
            raise TrainError(f"engine {self.name} calls this process rank {rank}, the launcher RANK={self.rank}")

    def reduce(self, values: Sequence[float], op: str = "sum") -> list[float]:
        """Return the `sum` or `max` over all ranks of a few numbers."""
        vector = torch.tensor(values, dtype=torch.float64)
        self.all_reduce(vector, op)
        return [float(value) for value in vector.tolist()]

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        """Give every rank the bytes of rank 0, in pieces; elsewhere `data` is None."""
        size = int(self.reduce([float(len(data or b""))], "max")[0])
        whole = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(size, dtype=torch.uint8)
        if self.size > 1:
            for first in range(0, size, _PIECE):
                self.broadcast(whole[first : first + _PIECE])
        return whole.numpy().tobytes()

    def barrier(self) -> None:
        """Return when every rank has come here."""
        self.reduce([0.0])

    def broadcast_state(self, model: nn.Module, optimizer: Optimizer | None = None) -> None:
        """Give every rank the parameters and buffers of rank 0, and its optimizer's state where there is one.

        All ranks must hold state of the same layout: none, or that of the same checkpoint.
        """
        tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
        if optimizer is not None:
            tensors += state_tensors(optimizer)
        _flat(tensors, self.broadcast)

    def average_buffers(self, model: nn.Module) -> None:
        """Replace floating-point buffers (running statistics of batch norm) by their mean over all ranks."""
        self.average(model.buffers())

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace those tensors that hold floating-point numbers by their mean over all ranks."""
        if self.size == 1:
            return

        def average(flat: Tensor) -> None:
            self.all_reduce(flat)
            flat.div_(self.size)

        _flat([tensor for tensor in tensors if tensor.is_floating_point()], average)


def state_tensors(optimizer: Optimizer) -> list[Tensor]:
    """Return the tensors of an optimizer's state themselves, in the order of its parameters."""
    states = optimizer.state_dict()["state"].values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def _flat(tensors: Iterable[Tensor], apply: Callable[[Tensor], None]) -> None:
    """Apply an in-place exchange to many tensors as one flat buffer per type and device."""
    groups: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
    for group in groups.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        apply(flat)
        position = 0
        for tensor in group:
            tensor.copy_(flat[position : position + tensor.numel()].view_as(tensor))
            position += tensor.numel()
