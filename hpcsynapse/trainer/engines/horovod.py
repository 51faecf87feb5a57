"""Horovod: gradients are all-reduced in the background while backward computes the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import horovod.torch as hvd
import torch
from horovod.torch.compression import Compressor
from torch import Tensor, nn

from hpcsynapse.spec.training import ExchangeOptions
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.base import PLAIN, Averager, Engine, Optimizer
from hpcsynapse.trainer.engines.compression import HALVES, pack

_OPS = {"sum": hvd.Sum, "max": hvd.Max}


class HalfCompressor(Compressor):  # type: ignore[misc]
    """Gradients in 16 bits, divided by the number of ranks before the cast; Horovod's own fp16 can overflow.

    To be summed, not averaged.
    """

    def __init__(self, half: torch.dtype) -> None:
        self._half = half

    def compress(self, tensor: Tensor) -> tuple[Tensor, torch.dtype]:
        """Return what is sent, and what `decompress` needs."""
        return pack(tensor, hvd.size(), self._half), tensor.dtype

    def decompress(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the sum over all ranks in the gradient's own type."""
        return tensor.to(dtype)


class HorovodAverager(Averager):
    """hvd.DistributedOptimizer, synchronised apart from its step so that exposed communication is seen."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, clock: StepClock, half: torch.dtype | None) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters()]
        how = {"op": hvd.Average} if half is None else {"op": hvd.Sum, "compression": HalfCompressor(half)}
        super().__init__(model, hvd.DistributedOptimizer(optimizer, named_parameters=named, **how), clock)

    def finish(self) -> None:
        """Wait for the all-reduces that backward began."""
        self.clock.mark("backward")
        self.optimizer.synchronize()  # type: ignore[attr-defined]
        self.clock.mark("communicate")

    def local(self) -> AbstractContextManager[None]:
        """Let the exchange that this backward would begin wait for the next one."""
        self.optimizer.set_backward_passes_per_step(2)  # type: ignore[attr-defined]  # counted anew from here
        return nullcontext()

    def update(self, scaler: Any = None) -> None:
        """Let the optimizer make its step without a second synchronisation."""
        with self.optimizer.skip_synchronize():  # type: ignore[attr-defined]
            super().update(scaler)


class HorovodEngine(Engine):
    """The world that mpirun, srun or horovodrun made for Horovod."""

    name = "horovod"

    def start(self) -> None:
        """Initialise Horovod; raises TrainError when its world is not the launcher's."""
        limit = max(1, int(self.wait_limit))
        os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", str(max(1, limit // 2)))
        # Never: its clock runs while the job is suspended. The watchdog ends what waits in vain.
        os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", "0")
        os.environ.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", str(max(1, int(self.start_limit))))
        hvd.init()
        self.controller = "mpi" if hvd.mpi_enabled() else "gloo"
        self.check_world(hvd.rank(), hvd.size(), "start the ranks with mpirun or horovodrun, or with srun --mpi=pmix")

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        """Replace a tensor by its sum or maximum over all ranks."""
        hvd.allreduce_(tensor, op=_OPS[op])

    def broadcast(self, tensor: Tensor) -> None:
        """Replace a tensor by that of rank 0."""
        hvd.broadcast_(tensor, root_rank=0)

    def begin_all_reduce(self, tensor: Tensor) -> Callable[[], object]:
        """Let Horovod's thread sum a tensor over all ranks."""
        handle = hvd.allreduce_async_(tensor, op=hvd.Sum)
        return lambda: hvd.synchronize(handle)

    def averager(
        self, model: nn.Module, optimizer: Optimizer, clock: StepClock, options: ExchangeOptions = PLAIN
    ) -> Averager:
        """Wrap the optimizer in hvd.DistributedOptimizer."""
        return HorovodAverager(model, optimizer, clock, HALVES.get(options.compression))

    def close(self) -> None:
        """Shut Horovod down once every rank is here."""
        self.barrier()
        hvd.shutdown()
