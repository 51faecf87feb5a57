"""mpi4py: one flat all-reduce after backward; nothing overlaps, so `communicate` is complete."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from mpi4py import MPI
from torch import Tensor, nn

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import ExchangeOptions
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.base import PLAIN, Averager, Engine, Optimizer
from hpcsynapse.trainer.engines.compression import HALVES
from hpcsynapse.trainer.engines.flat import FlatAverager

_OPS = {"sum": MPI.SUM, "max": MPI.MAX}


def _adds(half: torch.dtype) -> MPI.Op:
    """Return a sum of 16-bit floating-point numbers, a type that MPI does not have."""

    def add(source: Any, target: Any, _: MPI.Datatype) -> None:
        if len(target):
            torch.frombuffer(target, dtype=half).add_(torch.frombuffer(source, dtype=half))

    return MPI.Op.Create(add, commute=True)


_HALF_SUMS = {half: _adds(half) for half in HALVES.values()}


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
        """Replace a tensor by its sum or maximum over all ranks; 16-bit tensors by their sum only."""
        host = tensor.detach().cpu()
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, _array(host), op=_HALF_SUMS.get(tensor.dtype) or _OPS[op])
        _copy_back(host, tensor)

    def broadcast(self, tensor: Tensor) -> None:
        """Replace a tensor by that of rank 0."""
        host = tensor.detach().cpu()
        MPI.COMM_WORLD.Bcast(_array(host), root=0)
        _copy_back(host, tensor)

    def reduce_to_root(self, tensor: Tensor) -> None:
        """Replace a tensor on rank 0 by its sum over all ranks."""
        host = tensor.detach().cpu()
        array, op = _array(host), _HALF_SUMS.get(tensor.dtype) or MPI.SUM
        if self.rank == 0:
            MPI.COMM_WORLD.Reduce(MPI.IN_PLACE, array, op=op, root=0)
            _copy_back(host, tensor)
        else:
            MPI.COMM_WORLD.Reduce(array, None, op=op, root=0)

    def send(self, data: Tensor, rank: int) -> Callable[[], object]:
        """Begin to send bytes to one rank."""
        wait: Callable[[], object] = MPI.COMM_WORLD.Isend(data.numpy(), dest=rank).Wait
        return wait

    def receive(self, data: Tensor, rank: int, limit: float) -> None:
        """Wait for bytes from one rank; asks again and again, as MPI's own wait has no limit."""
        request, pause = MPI.COMM_WORLD.Irecv(data.numpy(), source=rank), 1e-5
        end = time.monotonic() + limit
        while not request.Test():
            if time.monotonic() > end:
                raise TrainError(f"peer lost: rank {rank} sent nothing for {limit:g} s")
            time.sleep(pause)
            pause = min(2 * pause, 1e-3)

    def averager(
        self, model: nn.Module, optimizer: Optimizer, clock: StepClock, options: ExchangeOptions = PLAIN
    ) -> Averager:
        """Return what averages gradients in one flat buffer."""
        half = HALVES.get(options.compression)
        return FlatAverager(model, optimizer, clock, self.all_reduce, self.size, half)

    def close(self) -> None:
        """Finalise MPI, which waits for every rank."""
        MPI.Finalize()


def _array(host: Tensor) -> Any:
    # numpy knows no bfloat16; the sums above look at the bytes only.
    return host.view(torch.int16).numpy() if host.dtype in _HALF_SUMS else host.numpy()


def _copy_back(host: Tensor, tensor: Tensor) -> None:
    if host.data_ptr() != tensor.data_ptr():
        tensor.copy_(host)
