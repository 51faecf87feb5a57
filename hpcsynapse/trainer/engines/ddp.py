"""torch.distributed: DistributedDataParallel over gloo on CPUs and NCCL on CUDA devices."""

# No `from __future__ import annotations`: DistributedDataParallel looks at the annotations of its hook.
import inspect
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket, TCPStore  # type: ignore[attr-defined]
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import ExchangeOptions
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.base import PLAIN, Averager, Engine, Optimizer
from hpcsynapse.trainer.engines.compression import HALVES, pack

# The first name is that of torch 2.13, which warns about the second.
_NAMES = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
_OPS = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}
_ONE_BUCKET = 10_000  # MiB

_MEETING = "hpcsynapse/meeting"
# gloo's clock runs while the job is suspended, and its connections do not outlive its limit: the watchdog ends waits.
_NO_LIMIT = timedelta(days=365)

Future = torch.futures.Future[Tensor]


def _meeting() -> str:
    """Return what all ranks of one start of one run have in common, and no other run has."""
    return f"{os.environ.get('HPCSYNAPSE_RUN_DIR', 'no run')}, start {os.environ.get('HPCSYNAPSE_ATTEMPT', '0')}"


def bucket_size(size: int, nodes: int = 2) -> float:
    """Return the bucket (MiB) for a model of so many bytes: an eighth, at least 0.25, at most torch's own 25.

    Within one node it is torch's own: what a bucket costs, 0.25 ms of processor time, is more than its overlap saves.
    Best-decile steps of two ranks with a core each: ResNet-56 (3.3 MiB) at 100 Mbit/s took 490 ms with 25 MiB where
    0.25 took 379; in a second run 1, 0.5, 0.25, 0.12 and 0.06 MiB took 382, 376, 369, 368 and 367. ResNet-50 (90 MiB)
    on loopback took 1.02 of the time of 25 MiB with 7, 1.00 with 13. The simple CNN, most of it one matrix: no matter.
    """
    return 25.0 if nodes == 1 else min(25.0, max(0.25, size / 8 / 2**20))


class DdpAverager(Averager):
    """DistributedDataParallel, with a note of when the last bucket is on its way.

    What compresses is a communication hook in Python. Without one torch's own code sends the buckets (a hook that only
    takes note costs 0.1 ms a bucket), and the gradient that comes last in a backward tells when: which one that is
    shows in the first. Buckets are all-reduced while backward computes the rest; gradients are views of the buckets,
    which saves the copy back. Buffers are not broadcast in every forward: the loop averages them before it validates
    or saves, for every engine alike. PowerSGD takes all gradients in one bucket (with several, gloo's threads wait for
    one another in its callbacks) and begins after `options.synchronous_steps`; its error feedback is not kept in
    checkpoints.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, clock: StepClock, engine: Engine, options: ExchangeOptions
    ) -> None:
        super().__init__(model, optimizer, clock)
        device = engine.device
        size = sum(parameter.numel() * parameter.element_size() for parameter in self.parameters)
        self._power = _power_sgd(options) if options.compression == "powersgd" else None
        self._half = HALVES.get(options.compression)
        self._ranks = dist.get_world_size()
        self._launched: Any = None
        sync_buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
        wrapped = DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            bucket_cap_mb=_ONE_BUCKET if self._power else options.bucket_mb or bucket_size(size, engine.identity.nodes),
            **sync_buffers,
        )
        self._last: Tensor | None = None
        self._hooks: list[tuple[nn.Parameter, RemovableHandle]] = []
        if self._power is not None or self._half is not None:
            wrapped.register_comm_hook(None, self._launch)
        else:
            self._hooks = [(one, one.register_post_accumulate_grad_hook(self._arrived)) for one in self.parameters]  # type: ignore[no-untyped-call]
        self.module = self._wrapped = wrapped

    def _arrived(self, parameter: Tensor) -> None:
        self._launched, self._last = self.clock.stamp(), parameter

    def _launch(self, _: Any, bucket: GradBucket) -> Future:
        if self._half is None:
            future: Future = powerSGD_hook(self._power, bucket)  # type: ignore[arg-type]  # one of the two is there
        else:
            packed = pack(bucket.buffer(), self._ranks, self._half)
            future = dist.all_reduce(packed, async_op=True).get_future().then(_into(bucket.buffer()))
        self._launched = self.clock.stamp()
        return future

    def local(self) -> AbstractContextManager[None]:
        """Return a context in which gradients stay in the buckets."""
        return self._wrapped.no_sync()

    def finish(self) -> None:
        """Split backward, which ended when all buckets had come back, at the launch of the last one."""
        self.clock.mark("backward", self._launched)
        self.clock.mark("communicate")
        self._launched = None
        if len(self._hooks) > 1:  # after the first backward
            for parameter, hook in self._hooks:
                if parameter is not self._last:
                    hook.remove()
            self._hooks = []


def _started(work: dist.Work | None) -> dist.Work:
    if work is None:  # of a process group that this rank does not belong to
        raise TrainError("engine ddp: this rank has no part in the process group")
    return work


def _into(buffer: Tensor) -> Callable[[torch.futures.Future[list[Tensor]]], Tensor]:
    return lambda future: buffer.copy_(future.value()[0])


def _power_sgd(options: ExchangeOptions) -> PowerSGDState:
    # Rank 1 reached the best step times at 100 Mbit/s; tensors of one shape are multiplied together to save calls.
    return PowerSGDState(
        process_group=None,
        matrix_approximation_rank=1,
        start_powerSGD_iter=max(2, options.synchronous),  # torch's smallest with error feedback
        orthogonalization_epsilon=1e-8,  # a gradient of zeros must not become nan
        batch_tensors_with_same_shape=True,
    )


class DdpEngine(Engine):
    """All ranks meet at MASTER_ADDR:MASTER_PORT."""

    name = "ddp"

    def start(self) -> None:
        """Make the process group; raises TrainError naming the ranks that did not come within the start limit."""
        for variable in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(variable):
                raise TrainError(f"engine ddp needs {variable} in the environment: start the ranks with a launcher")
        cuda = self.device.type == "cuda"
        self.controller = "nccl" if cuda else "gloo"
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=self._meet(),
            rank=self.rank,
            world_size=self.size,
            timeout=timedelta(seconds=self.wait_limit) if cuda else _NO_LIMIT,
        )
        self.check_world(dist.get_rank(), dist.get_world_size(), "check WORLD_SIZE")

    def _meet(self) -> Store:
        limit = timedelta(seconds=self.start_limit)
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        keys = [f"hpcsynapse/present/{rank}" for rank in range(self.size)]
        try:
            store = self._store(limit)
            if self.rank == 0:
                store.set(_MEETING, _meeting())
            store.wait([_MEETING], limit)
        except dist.DistError as error:
            raise TrainError(f"rank {self.rank} could not meet the others at {where}: {error}") from error
        if (other := store.get(_MEETING).decode()) != _meeting():  # two runs were given the same port of one node
            raise TrainError(f"rank {self.rank} of {_meeting()} found another run at {where}: {other}")
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
        """Replace a tensor by its sum or maximum over all ranks; raises TrainError when one of them is gone."""
        try:
            dist.all_reduce(tensor, op=_OPS[op])
        except RuntimeError as error:
            who = f"rank {1 - self.rank}" if self.size == 2 else "a rank"
            raise TrainError(f"peer lost: {who} is gone: {error}") from error

    def broadcast(self, tensor: Tensor) -> None:
        """Replace a tensor by that of rank 0."""
        dist.broadcast(tensor, src=0)

    def reduce_to_root(self, tensor: Tensor) -> None:
        """Replace a tensor on rank 0 by its sum over all ranks, in their order.

        Gathered and then added: gloo's own reduce is a ring that sends (R - 1)(1 + 1/R) tensors instead of R - 1. Rank
        0 holds R tensors meanwhile.
        """
        parts = [torch.empty_like(tensor) for _ in range(self.size)] if self.rank == 0 else None
        dist.gather(tensor, parts, dst=0)
        for part in (parts or [])[1:]:
            tensor.add_(part)

    def begin_all_reduce(self, tensor: Tensor) -> Callable[[], object]:
        """Let the process group's threads (NCCL: its stream) sum a tensor over all ranks."""
        wait: Callable[[], object] = dist.all_reduce(tensor, async_op=True).wait
        return wait

    def send(self, data: Tensor, rank: int) -> Callable[[], object]:
        """Let gloo's thread send bytes; not NCCL, which lets both directions between two ranks wait for one another."""
        wait: Callable[[], object] = _started(dist.isend(data, rank)).wait
        return wait

    def receive(self, data: Tensor, rank: int, limit: float) -> None:
        """Wait for bytes from one rank."""
        try:
            _started(dist.irecv(data, rank)).wait(timedelta(seconds=limit))
        except RuntimeError as error:
            raise TrainError(f"peer lost: rank {rank} is gone, or sent nothing for {limit:g} s: {error}") from error

    def averager(
        self, model: nn.Module, optimizer: Optimizer, clock: StepClock, options: ExchangeOptions = PLAIN
    ) -> Averager:
        """Wrap the model in DistributedDataParallel."""
        return DdpAverager(model, optimizer, clock, self, options)

    def close(self) -> None:
        """Destroy the process group once every rank is here: gloo aborts when a peer is gone too early."""
        self.barrier()
        dist.destroy_process_group()
