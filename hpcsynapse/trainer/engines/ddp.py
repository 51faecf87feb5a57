"""torch.distributed: DistributedDataParallel over gloo on CPUs and NCCL on CUDA devices."""

# No `from __future__ import annotations`: DistributedDataParallel looks at the annotations of its hook.
import inspect
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket, TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.base import Averager, Engine, Optimizer
from hpcsynapse.trainer.engines.interface import interface_towards

# The first name is that of torch 2.13, which warns about the second.
_NAMES = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
_OPS = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}


class DdpAverager(Averager):
    """DistributedDataParallel with a communication hook that notes when the last bucket is on its way.

    Buckets of 25 MB are all-reduced while backward computes the rest; gradients are views of the buckets, which
    saves the copy back. Buffers are not broadcast in every forward: the loop averages them before it validates or
    saves, for every engine alike.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, clock: StepClock, device: torch.device) -> None:
        super().__init__(model, optimizer, clock)
        options: dict[str, Any] = {_SYNC_BUFFERS: False}
        wrapped = DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            bucket_cap_mb=25,
            **options,
        )
        self._scale = 1.0 / dist.get_world_size()
        self._launched: Any = None
        wrapped.register_comm_hook(None, self._launch)
        self.module = wrapped

    def _launch(self, _: Any, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        buffer = bucket.buffer().mul_(self._scale)
        work = dist.all_reduce(buffer, async_op=True)
        self._launched = self.clock.stamp()
        future: torch.futures.Future[Tensor] = work.get_future().then(_first)
        return future

    def finish(self) -> None:
        """Split backward, which ended when all buckets had come back, at the launch of the last one."""
        self.clock.mark("backward", self._launched)
        self.clock.mark("communicate")
        self._launched = None


def _first(future: torch.futures.Future[list[Tensor]]) -> Tensor:
    return future.value()[0]


class DdpEngine(Engine):
    """All ranks meet at MASTER_ADDR:MASTER_PORT."""

    name = "ddp"

    def start(self) -> None:
        """Make the process group; raises TrainError naming the ranks that did not come within the start limit."""
        for variable in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(variable):
                raise TrainError(f"engine ddp needs {variable} in the environment: start the ranks with a launcher")
        cuda = self.device.type == "cuda"
        if self.identity.nodes > 1 and "GLOO_SOCKET_IFNAME" not in os.environ:
            name = interface_towards(os.environ["MASTER_ADDR"])
            if name:
                os.environ["GLOO_SOCKET_IFNAME"] = name
        self.controller = "nccl" if cuda else "gloo"
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=self._meet(),
            rank=self.rank,
            world_size=self.size,
            timeout=timedelta(seconds=self.wait_limit),
        )
        self.check_world(dist.get_rank(), dist.get_world_size(), "check WORLD_SIZE")

    def _meet(self) -> Store:
        limit = timedelta(seconds=self.start_limit)
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        keys = [f"hpcsynapse/present/{rank}" for rank in range(self.size)]
        try:
            store = self._store(limit)
        except dist.DistError as error:
            raise TrainError(f"rank {self.rank} could not meet the others at {where}: {error}") from error
        store.set(keys[self.rank], "1")
        try:
            store.wait(keys, limit)
        except dist.DistError as error:
            missing = [str(rank) for rank, key in enumerate(keys) if not store.check([key])]
            names = ", ".join(missing[:16]) + (", ..." if len(missing) > 16 else "")
            raise TrainError(f"ranks {names} did not come to {where} within {self.start_limit:g} s") from error
        prefixed: Store = PrefixStore("hpcsynapse", store)
        return prefixed

    def _store(self, limit: timedelta) -> Store:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun holds the store itself
            agent: Store = next(rendezvous("env://", self.rank, self.size, timeout=limit))[0]
            return agent
        # Not waiting for workers here: _meet can then say who is missing.
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store: Store = TCPStore(host, port, self.size, self.rank == 0, timeout=limit, wait_for_workers=False)
        return store

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        """Replace a tensor by its sum or maximum over all ranks."""
        dist.all_reduce(tensor, op=_OPS[op])

    def broadcast(self, tensor: Tensor) -> None:
        """Replace a tensor by that of rank 0."""
        dist.broadcast(tensor, src=0)

    def averager(self, model: nn.Module, optimizer: Optimizer, clock: StepClock) -> Averager:
        """Wrap the model in DistributedDataParallel."""
        return DdpAverager(model, optimizer, clock, self.device)

    def close(self) -> None:
        """Destroy the process group once every rank is here: gloo aborts when a peer is gone too early."""
        self.barrier()
        dist.destroy_process_group()
