"""The batches that a program takes from a loader, and which of them a step has used."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any


def size_of(batch: Any) -> int:
    """Return how many samples a batch holds, by its first tensor or list; 0 where that cannot be told."""
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()), None)
    elif isinstance(batch, (list, tuple)) and batch:
        batch = batch[0]
    shape = getattr(batch, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else 1
    return len(batch) if isinstance(batch, (list, tuple)) else 0


class Loader:
    """One loader of the program: the sizes of batches that it gave and no step has used yet, by age.

    A program may take batches ahead (Accelerate does, and prefetchers for the device), so a backward pass uses up the
    oldest. One that makes a single backward pass for several batches is seen by what is left growing step by step.
    """

    def __init__(self, loader: Any) -> None:
        self.waiting: deque[int] = deque()
        self.iterations = 0
        self.over = False  # this iteration has ended
        self.fresh = False  # gave a batch since the last step
        self._most_left = -1
        self._size = self._left = 0
        self._loader = weakref.ref(loader)
        self.length = _length(loader)
        self.batch_size = getattr(loader, "batch_size", None)

    def begin(self) -> None:
        """A new iteration over the loader begins."""
        self.iterations += 1
        self.over = False
        self._size, self._left = self._plan()
        self.waiting.clear()  # of an iteration that was broken off

    def give(self, batch: Any) -> None:
        """Note a batch that the program was given."""
        self.fresh = True
        if self._left > 0:
            self.waiting.append(min(self._size, self._left))
            self._left -= self._size
        else:
            self.waiting.append(size_of(batch))

    def _plan(self) -> tuple[int, int]:
        """Return the size of batches and the samples of an iteration, whatever a batch is made of; 0 if not planned."""
        loader = self._loader()
        size, sampler = getattr(loader, "batch_size", None), getattr(loader, "sampler", None)
        try:
            known = isinstance(size, int) and hasattr(type(sampler), "__len__")
            return (size, len(sampler)) if known else (0, 0)  # type: ignore[return-value,arg-type]
        except (TypeError, NotImplementedError):
            return 0, 0

    def use(self) -> int:
        """Return the size of the batch that a backward pass has used up; 0 where none is left."""
        return self.waiting.popleft() if self.waiting else 0

    def settle(self) -> int:
        """Return the samples that a step used beyond its backward passes."""
        if self._most_left < 0:
            self._most_left = len(self.waiting)
        used = 0
        while len(self.waiting) > self._most_left:
            used += self.waiting.popleft()
        return used


def steps_per_epoch(loader: Loader, samples: int) -> int:
    """Return how many steps an iteration has when each takes so many samples, 0 where that is not known."""
    size = loader.batch_size
    batches = round(samples / size) if isinstance(size, int) and size > 0 else 1
    return -(-loader.length // max(1, batches))


def _length(loader: Any) -> int:
    """Return how many batches an iteration has, 0 where that is not known; never `len(loader)`, which may warn."""
    batches, sampler, size = (getattr(loader, name, None) for name in ("batch_sampler", "sampler", "batch_size"))
    try:
        if isinstance(size, int) and hasattr(type(sampler), "__len__"):
            whole, rest = divmod(len(sampler), size)  # type: ignore[arg-type]
            return whole + bool(rest and not getattr(loader, "drop_last", False))
        return len(batches) if hasattr(type(batches), "__len__") else 0  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return 0
