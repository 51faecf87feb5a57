"""Parameters, gradients and optimizer state cut in pieces over the ranks: FSDP2, `torch.distributed.fsdp.fully_shard`.

A block's parameters are gathered before it computes and let go of after, its gradients averaged and scattered. What a
rank holds at any time is 1/R of the model, of its gradients and of the optimizer's state, and one block whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.trainer import sharded_state
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.data.base import Dataset
from hpcsynapse.trainer.data.sharding import chunk
from hpcsynapse.trainer.engines.base import Averager, Engine, Optimizer
from hpcsynapse.trainer.recompute import blocks
from hpcsynapse.trainer.strategies.base import GradientStrategy
from hpcsynapse.trainer.tally import Validation
from hpcsynapse.trainer.validation import evaluate

_log = logging.getLogger(__name__)


class ShardedAverager(Averager):
    """A model whose gradients come back averaged and scattered from backward itself."""

    @contextmanager
    def _without_exchange(self) -> Iterator[None]:
        self.module.set_requires_gradient_sync(False)  # type: ignore[operator]
        try:
            yield
        finally:
            self.module.set_requires_gradient_sync(True)  # type: ignore[operator]

    def local(self) -> AbstractContextManager[None]:
        """Return a context in which gradients stay whole on every rank, which takes their memory."""
        return self._without_exchange()

    def finish(self) -> None:
        """Mark the end of backward, in which all exchange was waited for."""
        self.clock.mark("backward")


class Sharded(GradientStrategy):
    """Equal to `single` with batch R*B, as is `allreduce`; raises TrainError for an engine other than ddp."""

    whole_on_device = False
    communicate = "none"  # apart: what forward and backward wait for is in their phases

    def __init__(self, engine: Engine, spec: JobSpec, world: RankIdentity) -> None:
        if engine.name != "ddp":
            raise TrainError(f"strategy 'sharded' needs engine ddp, not {engine.name}; use --engine ddp")
        super().__init__(engine, spec, world)

    def make_averager(self, model: nn.Module, optimizer: Optimizer, clock: StepClock) -> Averager:
        """Shard the model, block by block, and let the optimizer hold the pieces."""
        try:
            from torch.distributed.fsdp import fully_shard
        except ImportError:
            raise TrainError(f"strategy 'sharded' needs torch 2.6; this is {torch.__version__}") from None
        self.engine.broadcast_state(model)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        mesh = init_device_mesh(self.engine.device.type, (self.engine.size,))
        for block in blocks(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        model.to(self.engine.device)  # what is not sharded: buffers
        pieces = dict(model.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [pieces[names[id(parameter)]] for parameter in group["params"]]
        return ShardedAverager(model, optimizer, clock)

    def evaluate(self, data: Dataset, device: torch.device, alive: Callable[[], bool]) -> Validation | None:
        """Return loss and metrics; every rank computes as many batches as the one with most, and none stops early."""
        engine, batch = self.engine, self.spec.train.batch
        engine.average_buffers(self.model)
        rounds = -(-len(chunk(len(data), engine.size - 1, engine.size)) // batch)

        def working() -> bool:
            alive()
            return False

        return evaluate(self.model, self.objective, data, batch, engine, device, working, rounds)

    def save(self, checkpoints: Checkpoints, progress: Progress, about: dict[str, Any]) -> None:
        """Let every rank write its pieces, then say in the checkpoint's own file that they are whole."""
        self.engine.average_buffers(self.model)
        sharded_state.save(self.engine, self.model, self.optimizer, checkpoints, progress, about)

    def resume(self, checkpoints: Checkpoints) -> Progress:
        """Take up the pieces of the newest whole checkpoint, of whatever number of ranks."""
        step, data = self.newest(checkpoints)
        if data is None:
            return Progress()
        with checkpoints.fitting(step):
            content = checkpoints.parse(step, data)
            sharded_state.load(self.model, self.optimizer, checkpoints.path(step).with_name(content["shards"]))
        _log.info("resumed from step %d", step)
        return Progress(**content["progress"])
