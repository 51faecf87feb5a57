"""The ranks of a program that is not this one: by whatever it has brought them together itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol


class Ranks(Protocol):
    """What a loop needs of its ranks: which one this is, a maximum over all, and a tensor of rank 0."""

    rank: int
    size: int

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return, for each of a few numbers, the largest of all ranks."""

    def broadcast(self, tensor: Any) -> None:
        """Replace a contiguous tensor by that of rank 0."""


class Alone:
    """A program that has not brought ranks together."""

    rank, size = 0, 1

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the numbers."""
        return list(values)

    def broadcast(self, tensor: Any) -> None:
        """Leave the tensor as it is."""


class TorchRanks:
    """torch.distributed: DDP, Accelerate, Lightning, FSDP, and loops that average gradients themselves."""

    def __init__(self, torch: Any) -> None:
        self._torch, self._dist = torch, torch.distributed
        self.rank, self.size = int(self._dist.get_rank()), int(self._dist.get_world_size())

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the maximum by an all-reduce, on the device where the back end wants it."""
        device = "cuda" if self._dist.get_backend() == "nccl" else "cpu"
        tensor = self._torch.tensor(list(values), dtype=self._torch.float64, device=device)
        self._dist.all_reduce(tensor, op=self._dist.ReduceOp.MAX)
        return [float(value) for value in tensor.tolist()]

    def broadcast(self, tensor: Any) -> None:
        """Replace a contiguous tensor by that of rank 0."""
        self._dist.broadcast(tensor, src=0)


class HorovodRanks:
    """Horovod, once the program has called hvd.init()."""

    def __init__(self, hvd: Any) -> None:
        self._hvd, self._torch = hvd, import_module("torch")
        self.rank, self.size = int(hvd.rank()), int(hvd.size())

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the maximum by an all-reduce."""
        tensor = self._torch.tensor(list(values), dtype=self._torch.float64)
        return [float(value) for value in self._hvd.allreduce(tensor, op=self._hvd.Max).tolist()]

    def broadcast(self, tensor: Any) -> None:
        """Replace a contiguous tensor by that of rank 0."""
        self._hvd.broadcast_(tensor, root_rank=0)


class MpiRanks:
    """mpi4py's world; tensors on a device travel through host memory."""

    def __init__(self, mpi: Any) -> None:
        self._mpi, self._world, self._torch = mpi, mpi.COMM_WORLD, import_module("torch")
        self.rank, self.size = int(self._world.Get_rank()), int(self._world.Get_size())

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the maximum by an all-reduce of objects."""
        return [float(self._world.allreduce(value, op=self._mpi.MAX)) for value in values]

    def broadcast(self, tensor: Any) -> None:
        """Replace a contiguous tensor by that of rank 0, as bytes: MPI does not know all of torch's types."""
        host = tensor.detach().cpu()
        self._world.Bcast(host.reshape(-1).view(self._torch.uint8).numpy(), root=0)
        if host.data_ptr() != tensor.data_ptr():
            tensor.copy_(host)


def ranks_of_program() -> Ranks:
    """Return the ranks as the program has brought them together so far; alone where it has not."""
    torch, hvd, mpi = (sys.modules.get(name) for name in ("torch", "horovod.torch", "mpi4py.MPI"))
    distributed = getattr(torch, "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return TorchRanks(torch)
    if hvd is not None and hvd.is_initialized():
        return HorovodRanks(hvd)
    if mpi is not None and mpi.Is_initialized() and mpi.COMM_WORLD.Get_size() > 1:
        return MpiRanks(mpi)
    return Alone()
