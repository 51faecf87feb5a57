"""Images of any shape made from their number alone, to measure with: nothing is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, Indices

_POOL = 64


class SyntheticDataset:
    """Sample i is pattern i mod 64 of fixed noise, brightened by its label i mod classes."""

    def __init__(self, samples: int, shape: Sequence[int], classes: int, seed: int, first: int = 0) -> None:
        noise = np.random.default_rng(seed).standard_normal((_POOL, *shape), dtype=np.float32)
        self._pool = torch.from_numpy(noise)
        self._samples, self._classes, self._first = samples, classes, first

    def __len__(self) -> int:
        return self._samples

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return inputs (n, *shape) float32 and labels (n,) int64."""
        numbers = torch.from_numpy(indices) + self._first
        labels = numbers % self._classes
        images = self._pool.index_select(0, numbers % _POOL)
        images += (labels.to(torch.float32) / self._classes).reshape(-1, *[1] * (images.dim() - 1))
        return images, labels


def load(
    path: str | None = None,
    *,
    shape: Sequence[int] = (3, 32, 32),
    samples: int = 50_000,
    validation: int = 1_000,
    classes: int = 10,
    seed: int = 0,
) -> Data:
    """Return `samples` training and `validation` further images of `shape`; `path` is not used."""
    if samples < 1 or validation < 0 or classes < 1 or not shape or min(shape) < 1:
        raise TrainError(
            f"data 'synthetic': samples = {samples}, validation = {validation}, classes = {classes} and "
            f"shape = {list(shape)} must be positive"
        )
    return Data(
        train=SyntheticDataset(samples, shape, classes, seed),
        validation=SyntheticDataset(validation, shape, classes, seed, first=samples) if validation else None,
        shape=tuple(shape),
        classes=classes,
    )
