"""What is seen of a training program becomes steps: where each begins and ends, and what it spent its time on.

A step begins when its first batch is asked for (without a loader: where the one before ended) and ends with the last
optimizer's update before the next batch is asked for, or before an optimizer that has updated already does so again
after another backward pass. So gradient accumulation, several optimizers and closures make one step of one batch. What
passes between two steps is a gap, or a pause where the program evaluates or saves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .batches import Loader

Stamp = Any  # seconds of the host's clock, or an event of a device
NAN = float("nan")


class Step:
    """One step: stamps of its begin and end, and of all marks between, each with the phase that it ends."""

    __slots__ = ("begin", "end", "epoch", "loss", "marks", "samples")

    def __init__(self, begin: Stamp) -> None:
        self.begin = self.end = begin
        self.marks: list[tuple[str, Stamp]] = []
        self.samples = 0
        self.loss = NAN
        self.epoch = 0


class Steps:
    """Makes steps of what the hooks see, in one thread; `write` gets each when it is known to have ended.

    `write_pause(cause, begin, seconds)` gets the pauses, by the host's clock (time.perf_counter).
    """

    def __init__(self, write: Callable[[Step], None], write_pause: Callable[[str, float, float], None]) -> None:
        self._write, self._write_pause = write, write_pause
        self.stamp: Callable[[], Stamp] = time.perf_counter
        self.main: Loader | None = None  # which feeds the training
        self._newest: Loader | None = None
        self._open: Step | None = None  # under way
        self._done: Step | None = None  # ended, unless another optimizer goes on
        self._updated: set[int] = set()  # optimizers that have made their update in it
        self._end: Stamp | None = None
        self._epoch, self._iteration = -1, 0
        self._feeding: Loader | None = None  # in this epoch
        self._losses: list[tuple[float, bool]] = []
        self.backwards = 0  # passes of the step that is under way
        self._updating = self._fed = 0
        self.in_backward = False
        self._pause: tuple[str, float] | None = None
        self._last_gradient: Stamp | None = None

    def use_stamps(self, stamp: Callable[[], Stamp]) -> None:
        """From now on stamps are others; what was seen so far of the first step is forgotten but its samples."""
        self.stamp = stamp
        step = self._under_way()
        step.begin = step.end = stamp()
        step.marks.clear()

    # Data

    def asked(self, loader: Loader) -> bool:
        """A batch is asked for; tells whether it is one for training."""
        if self._pause is not None and loader is not self.main:
            return False
        if self._pause is not None:
            self.end_pause()
        if self._done is not None:
            self._close()
        if self._open is None:
            self._open = Step(self.stamp())
        else:
            self._open.marks.append(("", self.stamp()))
        return True

    def given(self, loader: Loader, batch: Any) -> None:
        """The batch has come."""
        self._newest = loader
        loader.give(batch)
        if self._open is not None:
            self._open.marks.append(("data", self.stamp()))

    def exhausted(self, loader: Loader) -> None:
        """There was none: the wait for the end of an epoch belongs to no step."""
        loader.over = True
        if self._open is not None and not self.backwards:
            self._open = None

    def fed(self, samples: int) -> None:
        """The outermost module was called with so many samples; they count in a program without a loader."""
        self._fed += samples

    # Computation

    def backward_begins(self, loss: float = NAN, divided: bool = False) -> None:
        """A backward pass begins; `divided` tells that its loss is a share of the step's."""
        if self._pause is not None:
            self.end_pause()
        step = self._open or self._under_way()
        step.marks.append(("forward", self.stamp()))
        if self._newest is not self.main:
            self._choose_loader()
        if self.main is not None:
            step.samples += self.main.use()
            if self.main is not self._feeding or self.main.iterations != self._iteration:
                self._begin_epoch(self.main)
            step.epoch = self._epoch
        self._losses.append((loss, divided))
        self.backwards += 1
        self.in_backward, self._last_gradient = True, None

    def gradient(self) -> None:
        """A gradient of this rank is ready; what the backward pass takes beyond the last is exchange."""
        self._last_gradient = self.stamp()

    def backward_ends(self) -> None:
        """The backward pass has ended."""
        self.in_backward = False
        if self._last_gradient is not None and self._open is not None:
            self._open.marks.append(("backward", self._last_gradient))
            self._open.marks.append(("communicate", self.stamp()))
        elif self._open is not None:
            self._open.marks.append(("backward", self.stamp()))
        if self._updating < 0:  # an update was made inside
            self._updating = 0
            self._commit(0)

    def exchange_begins(self) -> None:
        """The program waits for other ranks outside of a backward pass."""
        if self.backwards and not self.in_backward:
            self._mark("update" if self._updating else "backward")

    def exchange_ends(self) -> None:
        """The wait for other ranks has ended."""
        if self.backwards and not self.in_backward:
            self._mark("communicate")

    def update_begins(self) -> None:
        """An optimizer begins its update; one inside another's is a part of that."""
        if self.in_backward:
            return
        self._updating += 1
        if self._updating == 1:
            step = self._open or self._under_way()
            step.marks.append(("update" if self.backwards else "forward", self.stamp()))

    def update_ends(self, optimizer: int) -> None:
        """The update of an optimizer has ended; `optimizer` tells it from others."""
        if self.in_backward:
            self._updating = -1
            return
        self._updating -= 1
        if not self._updating:
            if self._open is not None:
                self._open.marks.append(("update", self.stamp()))
            self._commit(optimizer)

    def update_failed(self) -> None:
        """An optimizer's update ended in an error: no step was made."""
        self._updating = 0

    def losses_over(self) -> None:
        """The losses so far belong to an update that was skipped, if it was not made."""
        self._losses.clear()

    # Pauses

    def begin_pause(self, cause: str) -> bool:
        """Between two steps a pause begins; tells whether it did, since within a step there is none."""
        if self._open is not None or self._end is None:
            return False
        if self._pause is not None:
            if self._pause[0] == cause:
                return False
            self.end_pause()
        self._close()
        self._pause = (cause, time.perf_counter())
        return True

    def end_pause(self) -> None:
        """The pause has ended."""
        if self._pause is not None:
            (cause, begin), self._pause = self._pause, None
            self._write_pause(cause, begin, time.perf_counter() - begin)
            self._end = self.stamp()

    @property
    def paused(self) -> bool:
        """Whether a pause is under way."""
        return self._pause is not None

    def finish(self) -> None:
        """The program ends."""
        self._close()
        self.end_pause()

    # Steps

    def _under_way(self) -> Step:
        """Return the step that is under way; without a loader it began where the one before ended."""
        if self._open is None:
            self._open = Step(self.stamp() if self._end is None else self._end)
        return self._open

    def _mark(self, phase: str) -> None:
        if self._open is not None:
            self._open.marks.append((phase, self.stamp()))

    def _choose_loader(self) -> None:
        """The loader that gave the last batch before a backward pass feeds the training, while it gives any."""
        if self.main is None or self.main.over or not self.main.fresh:
            self.main = self._newest

    def _begin_epoch(self, loader: Loader) -> None:
        """An epoch is an iteration that feeds the training; programs may make a loader for each."""
        self._feeding, self._iteration = loader, loader.iterations
        self._epoch += 1

    def _commit(self, optimizer: int) -> None:
        """What is under way has become a step, or a part of the step before."""
        step, self._open = self._open or self._under_way(), None
        if self._done is None and not self.backwards and not any(phase == "data" for phase, _ in step.marks):
            return  # without a gradient: Horovod's broadcast makes such a step to have something to broadcast
        step.end = self._end = step.marks[-1][1]
        step.samples += self._fed if self.main is None else 0
        if self._losses:
            step.loss = _step_loss(self._losses)
        if self._done is not None and optimizer in self._updated and self.backwards:
            self._close()
        if self._done is None:
            self._done = step
        else:
            self._join(step)
        self._updated.add(optimizer)
        if self.main is not None:
            self.main.fresh = False
        self.backwards = self._fed = 0
        self._losses.clear()

    def _join(self, more: Step) -> None:
        done = self._done
        if done is not None:
            done.marks += more.marks
            done.end, done.samples = more.end, done.samples + more.samples

    def _close(self) -> None:
        """Write the step that has ended."""
        if self._done is not None:
            step, self._done = self._done, None
            self._updated.clear()
            if self.main is not None:
                step.samples += self.main.settle()
            self._write(step)


def _step_loss(losses: list[tuple[float, bool]]) -> float:
    """Return the loss of a step of several backward passes: the sum of shares, else the mean."""
    if len(losses) == 1:
        return losses[0][0]
    total = sum(loss for loss, _ in losses)
    return total if losses[-1][1] else total / len(losses)
