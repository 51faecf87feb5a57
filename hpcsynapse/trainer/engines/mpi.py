"""mpi4py: one flat all-reduce after backward; nothing overlaps, so `communicate` is complete."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mpi4py import MPI
from torch import Tensor, nn

from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.base import Averager, Engine, Optimizer

_OPS = {"sum": MPI.SUM, "max": MPI.MAX}


class FlatAverager(Averager):
    """Keeps all gradients of one type in one buffer, so that they are averaged by one call and never copied."""

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, clock: StepClock, all_reduce: Callable[[Tensor], None], size: int
    ) -> None:
        super().__init__(model, optimizer, clock)
        self._all_reduce, self._scale = all_reduce, 1.0 / size
        self._buffers: list[Tensor] = []
        for dtype in dict.fromkeys(parameter.dtype for parameter in self.parameters):
            group = [parameter for parameter in self.parameters if parameter.dtype == dtype]
            buffer = torch.zeros(sum(map(Tensor.numel, group)), dtype=dtype, device=group[0].device)
            position = 0
            for parameter in group:  # backward adds into a gradient that is there
                parameter.grad = buffer[position : position + parameter.numel()].view_as(parameter)
                position += parameter.numel()
            self._buffers.append(buffer)

    def zero(self) -> None:
        """Set all gradients to zero in place."""
        for buffer in self._buffers:
            buffer.zero_()

    def finish(self) -> None:
        """Average all gradients."""
        self.clock.mark("backward")
        for buffer in self._buffers:
            buffer.mul_(self._scale)
            self._all_reduce(buffer)
        self.clock.mark("communicate")


class MpiEngine(Engine):
    """MPI's world as mpirun or srun made it; tensors on a CUDA device travel through host memory."""

    name = "mpi"
    communicate = "complete"

    def start(self) -> None:
        """Check MPI's world (importing mpi4py initialises it); raises TrainError when it is not the launcher's."""
        self.controller = "mpi"
        self.check_world(
            MPI.COMM_WORLD.Get_rank(),
            MPI.COMM_WORLD.Get_size(),
            "start the ranks with mpirun or srun --mpi=pmix, and with the MPI that mpi4py was built for",
        )

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        """Replace a tensor by its sum or maximum over all ranks."""
        host = tensor.detach().cpu()
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, host.numpy(), op=_OPS[op])
        if host.data_ptr() != tensor.data_ptr():
            tensor.copy_(host)

    def broadcast(self, tensor: Tensor) -> None:
        """Replace a tensor by that of rank 0."""
        host = tensor.detach().cpu()
        MPI.COMM_WORLD.Bcast(host.numpy(), root=0)
        if host.data_ptr() != tensor.data_ptr():
            tensor.copy_(host)

    def averager(self, model: nn.Module, optimizer: Optimizer, clock: StepClock) -> Averager:
        """Return what averages gradients in one flat buffer."""
        return FlatAverager(model, optimizer, clock, self.all_reduce, self.size)

    def close(self) -> None:
        """Finalise MPI, which waits for every rank."""
        MPI.Finalize()
