"""What a strategy is: one training step, the communication that belongs to it, and where its state lies."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock, StepResult
from hpcsynapse.trainer.cluster import Cluster
from hpcsynapse.trainer.data.base import Dataset
from hpcsynapse.trainer.data.sharding import Shards
from hpcsynapse.trainer.engines.alone import LocalAverager
from hpcsynapse.trainer.engines.base import Averager, Engine, Optimizer
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.precision import make_scaler
from hpcsynapse.trainer.tally import Validation
from hpcsynapse.trainer.validation import evaluate

_log = logging.getLogger(__name__)


class Strategy(ABC):
    """Owns model and optimizer for the length of a run.

    `lockstep` says which ranks make every step together and so share an engine: all of the `world`, those of one
    `node`, or each `rank` for itself. `transport` names what moves the data where that is not the engine.
    """

    lockstep = "world"
    transport = ""
    whole_on_device = True  # else the model is given in host memory, and the strategy brings its parts to the device

    model: nn.Module
    optimizer: Optimizer
    objective: Objective
    shards: Shards  # set before `resume`

    def __init__(self, engine: Engine, spec: JobSpec, world: RankIdentity) -> None:
        self.engine, self.spec, self.world = engine, spec, world
        self.alive: Callable[[], None] = lambda: None  # to be called while a step waits for others
        self.weight = 1.0  # what this rank's loss counts in the mean over ranks; set before every step
        self.steps_per_epoch = 1  # both are set before `resume`
        self.stopping = False  # after a step: others stop the run, and so does this rank

    def join(self, run: RunDirectory, cluster: Cluster | None) -> None:  # noqa: B027 - most need the engine alone
        """Meet whoever is needed beside the engine's ranks, such as parameter servers; raises TrainError."""

    @property
    def communicate(self) -> str:
        """What the phase `communicate` holds: what did not overlap with backward (`exposed`), or `complete`."""
        return self.engine.communicate

    @property
    def share(self) -> tuple[int, int]:
        """Which part of the training samples this rank takes: (number, of so many parts)."""
        return self.world.rank, self.world.world_size

    @property
    def asynchronous_workers(self) -> int:
        """How many workers update one by one, each in its own time; 1 where ranks update together."""
        return 1

    @property
    def chief(self) -> bool:
        """Whether this rank reports, validates and saves for the run; may change while it goes on."""
        return self.engine.rank == 0

    @property
    def remark(self) -> str:
        """What a person should know of the training beside its numbers, such as that it has collapsed; mostly empty."""
        return ""

    @abstractmethod
    def prepare(
        self, model: nn.Module, optimizer: Optimizer, objective: Objective, clock: StepClock, clip_norm: float | None
    ) -> None:
        """Take model and optimizer; afterwards `optimizer` is the one whose state is saved and restored."""

    def resume(self, checkpoints: Checkpoints) -> Progress:
        """Take up the newest state there is and return how far it had come; every rank calls it once, before a step.

        By default it is the newest whole checkpoint that rank 0 finds.
        """
        progress = Progress()
        step, data = self.newest(checkpoints)
        if data is not None:
            progress = checkpoints.load(step, self.model, self.optimizer, data, self.load_extra_state)
            _log.info("resumed from step %d in epoch %d", step, progress.epoch + 1)
        self.engine.broadcast_state(self.model, self.optimizer)
        return progress

    def newest(self, checkpoints: Checkpoints) -> tuple[int, bytes | None]:
        """Return the step and the bytes of the newest whole checkpoint, or -1 and None.

        Rank 0 reads, the others receive: on a shared file system a file that is new to one node may not be there yet
        for another, and many ranks that read one file are slow.
        """
        found = checkpoints.newest() if self.engine.rank == 0 and self.spec.train.resume else None
        step = int(self.engine.reduce([-1 if found is None else found], "max")[0])
        if step < 0:
            return step, None
        return step, self.engine.broadcast_bytes(checkpoints.data(step) if self.engine.rank == 0 else None)

    @abstractmethod
    def step(self, inputs: Tensor, targets: Tensor) -> StepResult:
        """Train on one batch of this rank; marks the phases from `forward` to `update`."""

    def after_epoch(self) -> None:  # noqa: B027 - most strategies do nothing more
        """Do what belongs to the end of an epoch, such as a broadcast of parameters."""

    def finish(self, alive: Callable[[], None]) -> bool:
        """Complete the result after this rank's last step and return whether that has changed the model.

        `alive` is to be called while waiting for others.
        """
        return False

    def evaluate(self, data: Dataset, device: torch.device, alive: Callable[[], bool]) -> Validation | None:
        """Return loss and metrics of the model as it is now, or None on a rank that takes no part.

        `alive` is called after every batch and tells whether a stop is wanted, which ends it without a result.

        By default the ranks in lock-step share the samples.
        """
        self.engine.average_buffers(self.model)
        return evaluate(self.model, self.objective, data, self.spec.train.batch, self.engine, device, alive)

    def save(self, checkpoints: Checkpoints, progress: Progress, about: dict[str, Any]) -> None:
        """Write a checkpoint from which `resume` goes on; every rank calls it."""
        self.engine.average_buffers(self.model)
        if self.chief:
            checkpoints.save(self.model, self.optimizer, progress, about, self.extra_state())
        self.engine.barrier()

    def extra_state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside model and optimizer."""
        return {}

    def load_extra_state(self, content: dict[str, Any]) -> None:  # noqa: B027 - most strategies have none
        """Take up what `extra_state` returned, from all that a checkpoint holds; what is missing stays as it begins."""

    def close(self) -> None:  # noqa: B027 - most strategies have nothing to end
        """End what the strategy began; every rank calls it at the end of a run that succeeded."""


class GradientStrategy(Strategy):
    """Forward, backward, update on every rank; strategies differ in the hooks between."""

    averager: Averager

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, objective: Objective, clock: StepClock, clip_norm: float | None
    ) -> None:
        """Keep the parts and let the strategy choose how gradients are averaged."""
        self.model, self.objective, self.clock, self.clip_norm = model, objective, clock, clip_norm
        self.averager = self.make_averager(model, optimizer, clock)
        self.optimizer = self.averager.optimizer
        self.scaler = make_scaler(self.spec.train, self.engine.device)

    def make_averager(self, model: nn.Module, optimizer: Optimizer, clock: StepClock) -> Averager:
        """Return what finishes the gradients after backward; by default they stay those of this rank."""
        return LocalAverager(model, optimizer, clock)

    def step(self, inputs: Any, targets: Any) -> StepResult:
        """Make one step; of several parts only the last one's backward exchanges gradients."""
        averager, parts = self.averager, self.spec.train.accumulate
        averager.zero()
        losses = []
        for part in range(parts - 1):
            with averager.local():
                losses.append(self._backward(inputs[part], targets[part]))
            self.clock.mark("backward")
        last = (inputs, targets) if parts == 1 else (inputs[-1], targets[-1])
        losses.append(self._backward(*last))
        self.after_backward()
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(averager.parameters, self.clip_norm)
        self.update()
        self.after_update()
        self.clock.mark("update")
        return StepResult(losses[0] if parts == 1 else torch.stack(losses).mean(), self.spec.train.samples_per_step)

    def _backward(self, inputs: Any, targets: Any) -> Tensor:
        """Add one part's share to the gradients and return its loss."""
        loss = self.objective.loss(self.averager.module(inputs), targets)
        self.clock.mark("forward")
        share = loss / parts if (parts := self.spec.train.accumulate) > 1 else loss
        share = share * self.weight if self.weight != 1.0 else share
        (share if self.scaler is None else self.scaler.scale(share)).backward()
        return loss.detach()

    def extra_state(self) -> dict[str, Any]:
        """Return the scale of fp16."""
        return {} if self.scaler is None else {"scaler": self.scaler.state_dict()}

    def load_extra_state(self, content: dict[str, Any]) -> None:
        """Take up the scale of fp16."""
        if self.scaler is not None and "scaler" in content:
            self.scaler.load_state_dict(content["scaler"])

    def after_backward(self) -> None:
        """Finish the gradients: average them, or reduce them to one rank."""
        self.averager.finish()

    def update(self) -> None:
        """Change the parameters; in fp16 not where gradients have overflowed, and the scale is adapted."""
        self.averager.update(self.scaler)
        if self.scaler is not None:
            self.scaler.update()

    def after_update(self) -> None:
        """Do what follows the update, such as a broadcast of parameters; by default nothing."""
