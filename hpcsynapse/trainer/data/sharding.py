"""Which samples a rank takes in which step: a pure function of seed, epoch, step, rank and world size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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


class Dealt(NamedTuple):
    """So many steps of so many ranks, each with so many samples."""

    ranks: int
    batch: int
    steps: int


class Shards:
    """Deals the training samples out, anew in every epoch.

    `strided`: ranks take turns through one permutation of all samples, so that in step k R ranks with batch B take
    together exactly what one rank with batch R*B takes. `contiguous`: a rank permutes its own chunk and touches no
    other. Every rank makes the same number of steps; what fills no whole step is left out for this epoch, or makes
    smaller ones where that is asked for (`keep`): every sample is then taken once, by one rank.

    An epoch that another number of ranks has begun is dealt out anew from what they have left (`go_on`), so that every
    sample is taken once all the same.
    """

    def __init__(
        self, samples: int, batch: int, *, rank: int, ranks: int, seed: int, mode: str = STRIDED, keep: bool = False
    ) -> None:
        self._samples, self._batch, self._rank, self._ranks = samples, batch, rank, ranks
        self._seed, self._mode, self._keep = seed, mode, keep
        self.steps = self._steps(samples)
        if not self.steps or samples < ranks:
            raise TrainError(
                f"{samples} training samples are not enough for one step of {ranks} ranks x batch {batch} "
                f"({mode}); use a smaller --batch or fewer ranks"
            )
        self._begun, self._dealt = -1, list[Dealt]()  # the epoch that others began, and what they took of it
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def go_on(self, epoch: int, dealt: Sequence[Sequence[int]]) -> None:
        """Deal out of this epoch only what is left behind so many steps of other numbers of ranks, in their order."""
        self._begun, self._dealt, self._epoch = epoch, [Dealt(*one) for one in dealt], -1

    def steps_of(self, epoch: int) -> int:
        """Return the steps of an epoch that these ranks make."""
        return self._steps(self._size(epoch))

    def _size(self, epoch: int) -> int:
        """Return how many samples of an epoch these ranks have to deal out."""
        dealt = self._dealt if epoch == self._begun else []
        return max(0, self._samples - sum(one.ranks * one.batch * one.steps for one in dealt))

    def _steps(self, samples: int) -> int:
        width = self._batch * self._ranks
        if self._mode == STRIDED:
            return -(-samples // width) if self._keep else samples // width
        return -(-self._chunk(samples) // self._batch) if self._keep else samples // self._ranks // self._batch

    def _chunk(self, samples: int) -> int:
        """Return the size of the largest part, which is the last rank's."""
        return len(chunk(samples, self._ranks - 1, self._ranks))

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

    def count(self, step: int, rank: int | None = None, epoch: int = -1) -> int:
        """Return how many samples a rank, by default this one, takes in a step of an epoch, by default a whole one."""
        rank, samples = self._rank if rank is None else rank, self._size(epoch) if epoch >= 0 else self._samples
        if self._mode == STRIDED:
            left = samples - step * self._batch * self._ranks - rank
            return min(self._batch, max(0, -(-left // self._ranks)))
        return min(self._batch, max(0, len(chunk(samples, rank, self._ranks)) - step * self._batch))

    def weight(self, step: int, epoch: int = -1) -> float:
        """Return what this rank's mean over its samples counts in the mean over ranks; 1 in steps of full size.

        So weighted, the mean over ranks is that over all samples.
        """
        if not self._keep:
            return 1.0
        counts = [self.count(step, rank, epoch) for rank in range(self._ranks)]
        return counts[self._rank] * self._ranks / sum(counts)

    def tasks(self, epoch: int, position: int, step: int, total: int) -> Iterator[Task]:
        """Yield what this rank takes from `step` on, which is number `position` in its epoch, up to step `total`."""
        while step < total:
            if position >= self.steps_of(epoch):
                epoch, position = epoch + 1, 0
            yield Task(step, self.indices(epoch, position))
            position, step = position + 1, step + 1

    def _permute(self, epoch: int) -> Indices:
        dealt = self._dealt if epoch == self._begun else []
        if self._mode == STRIDED:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._samples).astype(np.int64)
            return order[sum(one.ranks * one.batch * one.steps for one in dealt) :]
        left = np.arange(self._samples, dtype=np.int64)
        for number, one in enumerate(dealt):
            taken = one.batch * one.steps
            rest = [self._shuffled(left, epoch, rank, one.ranks, number)[taken:] for rank in range(one.ranks)]
            left = np.sort(np.concatenate(rest))
        own = self._shuffled(left, epoch, self._rank, self._ranks, len(dealt))
        return own if len(own) else left[:1]

    def _shuffled(self, samples: Indices, epoch: int, rank: int, ranks: int, number: int) -> Indices:
        """Return a rank's chunk of these samples in its order, `number` times dealt out before in this epoch."""
        own = chunk(len(samples), rank, ranks)
        seed = [self._seed, epoch, rank, *([number] if number else [])]
        return samples[own.start : own.stop][np.random.default_rng(seed).permutation(len(own))]
