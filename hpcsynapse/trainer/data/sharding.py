"""Which samples a rank takes in which step: a pure function of seed, epoch, step, rank and world size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Indices

STRIDED = "strided"
CONTIGUOUS = "contiguous"


def chunk(samples: int, rank: int, ranks: int) -> range:
    """Return a rank's contiguous part; the last rank takes the remainder (145 over 4 is 36, 36, 36, 37)."""
    share = samples // ranks
    return range(rank * share, samples if rank == ranks - 1 else (rank + 1) * share)


@dataclass(frozen=True, slots=True)
class Task:
    """The batch of one step: its number, counted from 0 over the whole run, and the numbers of its samples."""

    step: int
    indices: Indices


class Shards:
    """Deals the training samples out, anew in every epoch.

    `strided`: ranks take turns through one permutation of all samples, so that in step k R ranks with batch B take
    together exactly what one rank with batch R*B takes. `contiguous`: a rank permutes its own chunk and touches no
    other. Every rank makes the same number of steps; what fills no whole step is left out for this epoch.
    """

    def __init__(self, samples: int, batch: int, *, rank: int, ranks: int, seed: int, mode: str = STRIDED) -> None:
        self._samples, self._batch, self._rank, self._ranks = samples, batch, rank, ranks
        self._seed, self._mode = seed, mode
        self.steps = samples // (batch * ranks) if mode == STRIDED else samples // ranks // batch
        if not self.steps:
            raise TrainError(
                f"{samples} training samples are not enough for one step of {ranks} ranks x batch {batch} "
                f"({mode}); use a smaller --batch or fewer ranks"
            )
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def indices(self, epoch: int, step: int) -> Indices:
        """Return the numbers of the samples that this rank takes in a step of an epoch, both counted from 0."""
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._permute(epoch)
        if self._mode == STRIDED:
            width = self._batch * self._ranks
            return self._order[step * width + self._rank : (step + 1) * width : self._ranks]
        return self._order[step * self._batch : (step + 1) * self._batch]

    def tasks(self, epoch: int, position: int, step: int, total: int) -> Iterator[Task]:
        """Yield what this rank takes from `step` on, which is number `position` in its epoch, up to step `total`."""
        while step < total:
            if position >= self.steps:
                epoch, position = epoch + 1, 0
            yield Task(step, self.indices(epoch, position))
            position, step = position + 1, step + 1

    def _permute(self, epoch: int) -> Indices:
        if self._mode == STRIDED:
            return np.random.default_rng([self._seed, epoch]).permutation(self._samples).astype(np.int64)
        own = chunk(self._samples, self._rank, self._ranks)
        order = np.random.default_rng([self._seed, epoch, self._rank]).permutation(len(own))
        return order.astype(np.int64) + own.start
