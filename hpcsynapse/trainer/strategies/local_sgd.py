"""Local SGD: every rank updates by its own gradients, and parameters are averaged every k steps.

The overlapped form averages a snapshot while training goes on, and adds the correction k steps later: always exactly
then, not as soon as it has come, so that a run can be repeated bit by bit.

What is exchanged is the difference to a reference that all ranks share: the last average. In 16 bits it loses digits of
k updates; the parameters themselves would lose digits of all the training so far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.data.base import Dataset
from hpcsynapse.trainer.engines.base import Engine, Optimizer, state_tensors
from hpcsynapse.trainer.engines.compression import HALVES, average, pack
from hpcsynapse.trainer.engines.flat import FlatAverager, flat_parameters
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.strategies.base import GradientStrategy
from hpcsynapse.trainer.tally import Validation


class Replica:
    """This rank's parameters of one type in one buffer, and the reference that all ranks share bit by bit."""

    def __init__(self, parameters: Tensor, engine: Engine, half: torch.dtype | None) -> None:
        self.parameters, self._engine, self._half = parameters, engine, half
        self._reference = parameters.clone()
        self._wait: Callable[[], object] | None = None

    def anchor(self) -> None:
        """Take the parameters, which are the same on every rank, as the reference."""
        self._reference.copy_(self.parameters)

    def share(self) -> None:
        """Take rank 0's parameters as parameters and reference: the ranks hold the same but for their arithmetic."""
        self._engine.broadcast(self.parameters)
        self.anchor()

    def average(self) -> None:
        """Replace parameters and reference by the mean of the parameters, the same bits on every rank."""
        mean = self.parameters - self._reference
        average(mean, self._engine.size, self._engine.all_reduce, self._half)
        self._reference += mean
        self.parameters.copy_(self._reference)

    def snapshot(self) -> None:
        """Begin to average the parameters as they are now."""
        size = self._engine.size
        self._own = self.parameters - self._reference
        sent = self._own.clone()
        self._mean = sent.mul_(1.0 / size) if self._half is None else pack(sent, size, self._half)
        self._wait = self._engine.begin_all_reduce(self._mean)

    def correct(self) -> None:
        """Replace the snapshot's own difference, which the parameters contain, by its mean; without one do nothing."""
        if self._wait is None:
            return
        self._wait()
        self._wait = None
        mean = self._mean.to(self._own.dtype)
        self._reference += mean
        self.parameters += mean - self._own

    def kept(self) -> tuple[Tensor, Tensor]:
        """Return what `restore` takes to undo an average."""
        return self.parameters.clone(), self._reference.clone()

    def restore(self, kept: tuple[Tensor, Tensor]) -> None:
        """Go back to what was kept; a snapshot under way is still valid then."""
        self.parameters.copy_(kept[0])
        self._reference.copy_(kept[1])


class LocalSGD(GradientStrategy):
    """`exchange.average_every` = k; in the first `exchange.synchronous` steps gradients are averaged instead.

    Momentum and other optimizer state stay a rank's own (averaging them too would double the bytes), and clipping acts
    on a rank's own gradient. Validation looks at the average and leaves training as it was. A checkpoint makes an
    average, of the optimizer's state too, from which everybody goes on: so a run that is killed and resumed is the run
    that was not. Memory: the parameters once more, overlapped three times more.
    """

    @property
    def communicate(self) -> str:
        """Overlapped, the phase holds what training had to wait for."""
        return "exposed" if self.spec.exchange.overlap else "complete"

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, objective: Objective, clock: StepClock, clip_norm: float | None
    ) -> None:
        """Lay the parameters out in one buffer."""
        super().prepare(model, optimizer, objective, clock, clip_norm)
        half = HALVES.get(self.spec.exchange.compression)
        self._replicas = [Replica(flat, self.engine, half) for flat in flat_parameters(self.averager.parameters)]
        self._alone, self._half = self.averager, half

    def resume(self, checkpoints: Checkpoints) -> Progress:
        """Take up the newest checkpoint; steps are those of the whole run."""
        progress = super().resume(checkpoints)
        self._steps = progress.step
        for replica in self._replicas:
            replica.anchor()
        if self._synchronous:
            sums, size = self.engine.all_reduce, self.engine.size
            self.averager = FlatAverager(self.model, self.optimizer, self.clock, sums, size, self._half)
        return progress

    def after_update(self) -> None:
        """Exchange parameters where it is time."""
        self._steps += 1
        options = self.spec.exchange
        if self._synchronous:
            return
        self.clock.mark("update")
        if self._steps == options.synchronous:
            self._begin_local_steps()
        elif not self._steps % options.average_every:
            for replica in self._replicas:
                self._exchange(replica)
        self.clock.mark("communicate")

    def _begin_local_steps(self) -> None:
        self.averager = self._alone
        for replica in self._replicas:
            replica.share()

    def _exchange(self, replica: Replica) -> None:
        if self.spec.exchange.overlap:
            replica.correct()
            replica.snapshot()
        else:
            replica.average()

    def evaluate(self, data: Dataset, device: torch.device, alive: Callable[[], bool]) -> Validation | None:
        """Return loss and metrics of the average; every rank then goes on from its own parameters."""
        if self._synchronous:
            return super().evaluate(data, device, alive)
        kept = [replica.kept() for replica in self._replicas]
        for replica in self._replicas:
            replica.average()
        found = super().evaluate(data, device, alive)
        for replica, own in zip(self._replicas, kept, strict=True):
            replica.restore(own)
        return found

    def save(self, checkpoints: Checkpoints, progress: Progress, about: dict[str, Any]) -> None:
        """Go on from the average, and write it."""
        self._settle()
        self.engine.average(state_tensors(self.optimizer))
        super().save(checkpoints, progress, about)

    def finish(self, alive: Callable[[], None]) -> bool:
        """End with the average; what was validated or saved at this step was that already."""
        self._settle()
        return False

    @property
    def _synchronous(self) -> bool:
        return self._steps < self.spec.exchange.synchronous

    def _settle(self) -> None:
        for replica in self._replicas:
            if self._synchronous:
                replica.share()
            else:
                replica.correct()
                replica.average()
