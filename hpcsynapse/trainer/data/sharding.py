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
    other. Every rank makes the same number of steps; what fills no whole step is left out for this epoch, or makes
    smaller ones where that is asked for (`keep`): every sample is then taken once, by one rank.
    """

    def __init__(
        self, samples: int, batch: int, *, rank: int, ranks: int, seed: int, mode: str = STRIDED, keep: bool = False
    ) -> None:
        self._samples, self._batch, self._rank, self._ranks = samples, batch, rank, ranks
        self._seed, self._mode, self._keep = seed, mode, keep
        self.steps = samples // (batch * ranks) if mode == STRIDED else samples // ranks // batch
        if keep:
            self.steps = -(-samples // (batch * ranks))
            if mode == CONTIGUOUS:
                self.steps = -(-len(chunk(samples, ranks - 1, ranks)) // batch)
        if not self.steps or samples < ranks:
            raise TrainError(
                f"{samples} training samples are not enough for one step of {ranks} ranks x batch {batch} "
                f"({mode}); use a smaller --batch or fewer ranks"
            )
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def indices(self, epoch: int, step: int) -> Indices:
        """Return the numbers of the samples that this rank takes in a step of an epoch, both counted from 0.

        Where none is left for it (`weight` is 0) it is one that counts for nothing.
        """
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._permute(epoch)
        if self._mode == STRIDED:
            width = self._batch * self._ranks
            own = self._order[step * width + self._rank : (step + 1) * width : self._ranks]
        else:
            own = self._order[step * self._batch : (step + 1) * self._batch]
        return own if len(own) else self._order[:1]

    def count(self, step: int, rank: int | None = None) -> int:
        """Return how many samples a rank, by default this one, takes in a step of an epoch."""
        rank = self._rank if rank is None else rank
        if self._mode == STRIDED:
            left = self._samples - step * self._batch * self._ranks - rank
            return min(self._batch, max(0, -(-left // self._ranks)))
        return min(self._batch, max(0, len(chunk(self._samples, rank, self._ranks)) - step * self._batch))

    def weight(self, step: int) -> float:
        """Return what this rank's mean over its samples counts in the mean over ranks; 1 in steps of full size.

        So weighted, the mean over ranks is that over all samples.
        """
        if not self._keep:
            return 1.0
        counts = [self.count(step, rank) for rank in range(self._ranks)]
        return counts[self._rank] * self._ranks / sum(counts)

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
