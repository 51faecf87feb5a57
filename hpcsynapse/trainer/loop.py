"""The training loop: data, timing, validation, checkpoints, status; the strategy makes the steps."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from hpcsynapse.runs.states import RunState
from hpcsynapse.spec.optimizer import Span
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.control import Control
from hpcsynapse.trainer.data.base import Data
from hpcsynapse.trainer.data.batches import to_device
from hpcsynapse.trainer.data.loader import BatchLoader
from hpcsynapse.trainer.data.sharding import Shards
from hpcsynapse.trainer.optim import Schedule
from hpcsynapse.trainer.profiler import StepProfiler
from hpcsynapse.trainer.randomness import StepSeeds
from hpcsynapse.trainer.reporter import Reporter
from hpcsynapse.trainer.save_interval import SaveInterval
from hpcsynapse.trainer.strategies.base import Strategy
from hpcsynapse.trainer.validation import validate
from hpcsynapse.trainer.watchdog import Watchdog

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Loop:
    """One run from its first or its resumed step to its end; every rank runs one."""

    train: TrainSpec
    strategy: Strategy
    data: Data
    shards: Shards
    loader: BatchLoader
    device: torch.device
    clock: StepClock
    checkpoints: Checkpoints
    save_interval: SaveInterval
    reporter: Reporter
    control: Control
    watchdog: Watchdog
    wait_limit: float
    profiler: StepProfiler | None = None

    def __post_init__(self) -> None:
        self.progress = Progress()
        self.rank, self.shares = self.strategy.world.rank, self.strategy.share[1]
        self.global_batch = self.train.samples_per_step * self.shares
        self._plan(self.train.steps or self.train.epochs * self.shards.steps)
        self._seeds = StepSeeds(self.train.seed, self.rank, self.device)
        self._saved = self._validated = -1
        self.metrics: dict[str, float] = {}

    def _plan(self, total: int) -> None:
        """Lay out the learning rate of a run that ends after so many steps."""
        self.total = total
        span = Span(self.shards.steps, self.total, self.global_batch, self.strategy.asynchronous_workers)
        self._schedule = Schedule(self.train, self.shares, span)
        if (beyond := span.beyond(self.train.milestones)) and self.rank == 0:
            _log.warning("milestones %s lie beyond the run, which ends after %d updates", beyond, span.last)

    def resume(self) -> None:
        """Continue from the newest state that the strategy finds, if there is one."""
        self.strategy.steps_per_epoch, self.strategy.shards = self.shards.steps, self.shards
        self.progress = self.strategy.resume(self.checkpoints)
        self._saved = self.progress.step or -1
        self._share_out()

    def _share_out(self) -> None:
        """Take up the epoch where it was left, be it by another number of ranks, and count the steps that follow."""
        progress, own = self.progress, [self.shares, self.train.samples_per_step]
        if not progress.dealt:  # a beginning, or a checkpoint that does not say who took what
            progress.dealt = [[*own, -(-progress.samples // self.global_batch)]]
        before = progress.dealt[-1]
        if changed := before[:2] != own:
            progress.dealt = [*(one for one in progress.dealt if one[2]), [*own, 0]]
        self.shards.go_on(progress.epoch, progress.dealt[:-1])
        if not self.train.steps and self.strategy.lockstep == "world":
            left = self.shards.steps_of(progress.epoch) - self._position()
            epochs = self.train.epochs - progress.epoch - 1
            total = progress.step + (left + epochs * self.shards.steps if epochs >= 0 else 0)
            if total != self.total:
                self._plan(total)
        if changed:
            rule = "is in proportion to the ranks" if self.train.lr_scaling == "linear" else "stays as it is"
            now, then = f"{own[0]} ranks x {own[1]} samples", f"{before[0]} x {before[1]}"
            self.reporter.note(
                f"{now} go on instead of {then}; the learning rate {rule}",
                ranks=own[0],
                global_batch=self.global_batch,
                lr=self._schedule.rate(progress.step),
            )

    def run(self) -> str:
        """Train to the end or to a stop; returns the final state, FINISHED or STOPPED."""
        self.reporter.steps, self.reporter.global_batch = self.total, self.global_batch
        self.reporter.step, self.reporter.epoch = self.progress.step, self.progress.epoch
        self.reporter.about(epochs=-(-self.total // self.shards.steps), steps_per_epoch=self.shards.steps)
        self._validate_what_was_saved()
        self._enter(RunState.TRAINING)
        self._begin_feed()
        self.control.saved(self.save_interval.seconds)
        while self.progress.step < self.total:
            began, first = time.monotonic(), self.progress.step
            stop = self._epoch()
            rate = (self.progress.step - first) * self.global_batch / max(time.monotonic() - began, 1e-9)
            if self.profiler is not None and self.progress.step >= self.total:
                self.profiler.close()
            if stop or self._after_epoch(rate):
                self._save_anew()
                return RunState.STOPPED
        self._enter(RunState.TRAINING)
        if self.strategy.finish(self.watchdog.tick):
            self._saved = self._validated = -1
        self.reporter.active = self.strategy.chief
        if self.train.checkpoint_every or self.train.saves_within_epochs:
            self._save_anew()
        if self._validated != self.progress.step:
            self._validate()
        left = self.strategy.chief and self._validates and self._validated != self.progress.step
        if left:
            return RunState.STOPPED
        self._test()
        return RunState.FINISHED

    def _epoch(self) -> bool:
        """Train to the end of the epoch or of the run; returns whether a stop was agreed on."""
        progress, clock, reporter = self.progress, self.clock, self.reporter
        optimizer, epoch = self.strategy.optimizer, self.progress.epoch
        self.strategy.model.train()
        position = self._position()
        self.control.take_agreed()  # before a validation, say
        steps, before = self.shards.steps_of(epoch), progress.samples - position * self.global_batch
        while position < steps:
            if self.profiler is not None:
                self.profiler.before(progress.step)
            clock.begin(self.control.take_agreed())
            step = progress.step
            inputs, targets = self.loader.take()
            self._seeds.apply(step)
            inputs, targets = to_device(inputs, self.device), to_device(targets, self.device)
            reporter.lr = self._schedule.apply(optimizer, step)
            clock.mark("data")
            self.strategy.weight = self.shards.weight(position, epoch)
            result = self.strategy.step(inputs, targets)
            if self.train.last_batch == "keep":
                result.samples = self.shards.count(position, epoch=epoch)
            clock.end(step, epoch, result)
            position += result.advance
            progress.step, progress.dealt[-1][2] = min(step + result.advance, self.total), position
            progress.samples = before + position * self.global_batch
            if result.advance > 1:
                self._begin_feed()
            reporter.step, reporter.loss = progress.step, clock.loss
            reporter.active = self.strategy.chief
            self.watchdog.tick()
            self.checkpoints.check()
            if self.control.stop_after_step() or self.strategy.stopping:
                return True
            if progress.step >= self.total:
                break
            if self.control.save_is_due and position < steps:
                self._save()
                self._enter(RunState.TRAINING)
        return False

    def _position(self) -> int:
        """Return the number of the step that comes next among those that these ranks make of the epoch."""
        return self.progress.dealt[-1][2]

    def _begin_feed(self) -> None:
        epoch, position = self.progress.epoch, self._position()
        if position >= (steps := self.shards.steps_of(epoch)):
            epochs, position = divmod(position - steps, self.shards.steps)
            epoch += 1 + epochs
        self.loader.begin(self.shards.tasks(epoch, position, self.progress.step, self.total))

    def _after_epoch(self, rate: float) -> bool:
        """End an epoch; returns whether a stop was agreed on. Saved first: a validation may last, and be cut short."""
        progress, train, stop = self.progress, self.train, False
        beyond = self._position() - self.shards.steps_of(progress.epoch)  # steps of the next epoch, made by others
        if beyond >= 0:
            self.strategy.after_epoch()
            progress.epoch, progress.samples = progress.epoch + 1, beyond * self.global_batch
            progress.dealt = [[self.shares, self.train.samples_per_step, beyond]]
            self.reporter.epoch = progress.epoch
            if train.checkpoint_every and not progress.epoch % train.checkpoint_every:
                self._save()
            if self._is_to_be_validated():
                self._validate()
                self._end_early()
                stop = self.control.agree() and progress.step < self.total
            self.reporter.tell_epoch(rate, self.metrics if self._validated == progress.step else {})
        self._enter(RunState.TRAINING)
        return stop

    @property
    def _validates(self) -> bool:
        return self.data.validation is not None and bool(self.train.validate_every)

    def _is_to_be_validated(self) -> bool:
        return self._validates and not self.progress.epoch % self.train.validate_every

    def _validate_what_was_saved(self) -> None:
        """Validate the state that was taken up, where its run was ended after saving it and before its validation."""
        progress = self.progress
        if self.strategy.lockstep != "world" or not progress.step or progress.samples or not self._is_to_be_validated():
            return
        owed = self.reporter.active and not self.reporter.has_metrics(progress.step)
        if self.strategy.engine.reduce([float(owed)], "max")[0]:
            self._validate()

    def _validate(self) -> None:
        if not self._validates:
            return
        with self.clock.pause("validation"):
            self._enter(RunState.EVALUATING)
            evaluate = partial(self.strategy.evaluate, device=self.device, alive=self._stop_in_validation)
            found = validate(evaluate, self.data, self.train.validate_train)
            if found is not None:
                self._validated = self.progress.step
                self.metrics = dict(found.metrics)
                self.reporter.metrics(found.metrics, self.progress.step * self.global_batch, found.counts)

    def _end_early(self) -> None:
        """Make this step the last one where validations have got no better for long enough."""
        train = self.train
        if train.patience:
            over = self.reporter.active and self.reporter.without_better(train.patience_metric) >= train.patience
            if self.strategy.engine.reduce([float(over)], "max")[0]:
                _log.info("%s has not got better in %d validations: the end", train.patience_metric, train.patience)
                self.total = self.reporter.steps = self.progress.step

    def _test(self) -> None:
        """Measure the result on the samples that were set aside for it, where there are some."""
        if self.data.test is None:
            return
        with self.clock.pause("validation"):
            self._enter(RunState.EVALUATING)
            found = self.strategy.evaluate(self.data.test, device=self.device, alive=self._stop_in_validation)
            if found is not None:
                self.metrics |= {f"test_{name}": value for name, value in found.metrics.items()}
                self.reporter.metrics(self.metrics, self.progress.step * self.global_batch)

    def _stop_in_validation(self) -> bool:
        self.watchdog.tick()
        return self.control.wants_to_stop()

    def _save_anew(self) -> None:
        """Save, unless this very state was saved already, and return when it is on disk."""
        if self._saved != self.progress.step:
            self._save(background=False)
        self.checkpoints.wait()

    def _save(self, background: bool = True) -> None:
        began = time.monotonic()
        with self.clock.pause("checkpoint"):
            self._enter(RunState.SAVING)
            self.checkpoints.background = background and self.train.checkpoint_async
            self.strategy.save(self.checkpoints, self.progress, self._about())
            self._saved = self.progress.step
        stopped, write = time.monotonic() - began, self.checkpoints.write_s
        self.save_interval.learn(stopped, write)
        self.control.saved(self.save_interval.seconds)
        self.reporter.about(
            checkpoint_stop_s=stopped, checkpoint_write_s=write, checkpoint_every_s=self.save_interval.seconds
        )

    def _about(self) -> dict[str, Any]:
        schedule = {"lr": self._schedule.rate(self.progress.step)}
        return {"seed": self.train.seed, "ranks": self.shares, "model": self.train.model, "schedule": schedule}

    def _enter(self, state: str) -> None:
        self.clock.drain()
        self.watchdog.expect(f"{state} at step {self.progress.step}", self.wait_limit)
        self.reporter.active = self.strategy.chief
        self.reporter.about(remark=self.strategy.remark)
        self.reporter.state(state)
