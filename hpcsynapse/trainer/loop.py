"""The training loop: data, timing, validation, checkpoints, status; the strategy makes the steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.control import Control
from hpcsynapse.trainer.data.base import Data
from hpcsynapse.trainer.data.batches import to_device
from hpcsynapse.trainer.data.feed import Feed
from hpcsynapse.trainer.data.sharding import Shards
from hpcsynapse.trainer.optim import Schedule
from hpcsynapse.trainer.randomness import StepSeeds
from hpcsynapse.trainer.reporter import Reporter
from hpcsynapse.trainer.strategies.base import Strategy
from hpcsynapse.trainer.watchdog import Watchdog
from hpcsynapse.training import TrainSpec

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Loop:
    """One run from its first or its resumed step to its end; every rank runs one."""

    train: TrainSpec
    strategy: Strategy
    data: Data
    shards: Shards
    feed: Feed
    device: torch.device
    clock: StepClock
    checkpoints: Checkpoints
    reporter: Reporter
    control: Control
    watchdog: Watchdog
    wait_limit: float

    def __post_init__(self) -> None:
        self.progress = Progress()
        self.rank, self.shares = self.strategy.world.rank, self.strategy.share[1]
        self.global_batch = self.train.batch * self.shares
        self.total = self.train.steps or self.train.epochs * self.shards.steps
        self._schedule = Schedule(self.train, self.shares)
        self._seeds = StepSeeds(self.train.seed, self.rank, self.device)
        self._saved = self._validated = -1
        self.metrics: dict[str, float] = {}

    def resume(self) -> None:
        """Continue from the newest state that the strategy finds, if there is one."""
        self.strategy.steps_per_epoch, self.strategy.shards = self.shards.steps, self.shards
        self.progress = self.strategy.resume(self.checkpoints)
        self._saved = self.progress.step or -1

    def run(self) -> str:
        """Train to the end or to a stop; returns the final state, FINISHED or STOPPED."""
        self.reporter.steps, self.reporter.global_batch = self.total, self.global_batch
        self.reporter.step, self.reporter.epoch = self.progress.step, self.progress.epoch
        self.reporter.about(epochs=-(-self.total // self.shards.steps))
        self._enter("TRAINING")
        self._begin_feed()
        while self.progress.step < self.total:
            if self._epoch():
                self._save()
                return "STOPPED"
            self._after_epoch()
        self._enter("TRAINING")
        if self.strategy.finish(self.watchdog.tick):
            self._saved = self._validated = -1
        self.reporter.active = self.strategy.chief
        if self._validated != self.progress.step:
            self._validate()
        if self.train.checkpoint_every and self._saved != self.progress.step:
            self._save()
        return "FINISHED"

    def _epoch(self) -> bool:
        """Train to the end of the epoch or of the run; returns whether a stop was agreed on."""
        progress, clock, reporter = self.progress, self.clock, self.reporter
        optimizer, epoch = self.strategy.optimizer, self.progress.epoch
        self.strategy.model.train()
        position = self._position()
        while position < self.shards.steps:
            clock.begin()
            step = progress.step
            inputs, targets = self.feed.take()
            self._seeds.apply(step)
            inputs, targets = to_device(inputs, self.device), to_device(targets, self.device)
            reporter.lr = self._schedule.apply(optimizer, step)
            clock.mark("data")
            result = self.strategy.step(inputs, targets)
            clock.end(step, epoch, result)
            position += result.advance
            progress.step, progress.samples = min(step + result.advance, self.total), position * self.global_batch
            if result.advance > 1:
                self._begin_feed()
            reporter.step, reporter.loss = progress.step, clock.loss
            reporter.active = self.strategy.chief
            self.watchdog.tick()
            if self.control.stop_after_step() or self.strategy.stopping:
                return True
            if progress.step >= self.total:
                break
        return False

    def _position(self) -> int:
        """Return the step within the epoch that comes next; another number of ranks may have begun the epoch."""
        return -(-self.progress.samples // self.global_batch)

    def _begin_feed(self) -> None:
        epochs, position = divmod(self._position(), self.shards.steps)
        self.feed.begin(self.shards.tasks(self.progress.epoch + epochs, position, self.progress.step, self.total))

    def _after_epoch(self) -> None:
        progress, train = self.progress, self.train
        beyond = progress.samples // self.global_batch - self.shards.steps  # steps of the next epoch, made by others
        if beyond >= 0:
            self.strategy.after_epoch()
            progress.epoch, progress.samples = progress.epoch + 1, beyond * self.global_batch
            self.reporter.epoch = progress.epoch
            if train.validate_every and not progress.epoch % train.validate_every:
                self._validate()
            if train.checkpoint_every and not progress.epoch % train.checkpoint_every:
                self._save()
        self._enter("TRAINING")

    def _validate(self) -> None:
        if self.data.validation is None or not self.train.validate_every:
            return
        self._enter("EVALUATING")
        found = self.strategy.evaluate(self.data.validation, self.device, self.watchdog.tick)
        self._validated = self.progress.step
        if found is not None:
            self.metrics = found
            self.reporter.metrics(found, self.progress.step * self.global_batch)

    def _save(self) -> None:
        self._enter("SAVING")
        self.strategy.save(self.checkpoints, self.progress, self._about())
        self._saved = self.progress.step

    def _about(self) -> dict[str, Any]:
        schedule = {"lr": self._schedule.rate(self.progress.step)}
        return {"seed": self.train.seed, "ranks": self.shares, "model": self.train.model, "schedule": schedule}

    def _enter(self, state: str) -> None:
        self.clock.drain()
        self.watchdog.expect(f"{state} at step {self.progress.step}", self.wait_limit)
        self.reporter.active = self.strategy.chief
        self.reporter.about(remark=self.strategy.remark)
        self.reporter.state(state)
