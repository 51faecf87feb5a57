"""What a data set is to the trainer: arrays from which any samples can be taken at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.batches import split

Indices = NDArray[np.int64]


class Dataset(Protocol):
    """Samples that are taken by number, many at once."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def batch(self, indices: Indices) -> tuple[Any, Any]:
        """Return inputs and targets of the samples with these numbers: tensors (n, ...), or lists and dicts of them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Training, validation and test samples, the shape (C, H, W) of one, and the number of classes where it is known.

    `names` are those of the classes in the order of their labels, or none; `tokens` how many a sample has, of text.
    """

    train: Dataset
    validation: Dataset | None = None
    test: Dataset | None = None
    shape: tuple[int, ...] | None = None
    classes: int | None = None
    names: tuple[str, ...] = ()
    sharding: str = "strided"
    tokens: int | None = None


class ImageDataset:
    """Images held as bytes or floats (n, C, H, W) with labels (n,); a batch is `(images - mean) / deviation`."""

    def __init__(
        self, images: NDArray[Any], labels: NDArray[Any], *, mean: Sequence[float], deviation: Sequence[float]
    ) -> None:
        self.images = torch.from_numpy(np.require(images, requirements=["C", "W"]))
        self.labels = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
        self._scale = (1.0 / torch.tensor(deviation, dtype=torch.float32)).reshape(1, -1, 1, 1)
        self._shift = (-torch.tensor(mean, dtype=torch.float32)).reshape(1, -1, 1, 1) * self._scale

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return normalised images (n, C, H, W) float32 and labels (n,) int64."""
        chosen = torch.from_numpy(indices)
        images = self.images.index_select(0, chosen)
        if images.dtype != torch.float32:
            images = images.to(torch.float32)
        return torch.addcmul(self._shift, images, self._scale), self.labels.index_select(0, chosen)


class MapDataset:
    """A user's data set with `__len__` and `__getitem__`, made to give whole batches.

    Samples are put together by its own method `collate`, else by the function given, else as torch.utils.data does.
    """

    def __init__(self, samples: Any, collate: Callable[[list[Any]], Any] | None = None, name: str = "") -> None:
        self.samples, self.name = samples, name or type(samples).__name__
        self._collate = getattr(samples, "collate", None) or collate or default_collate

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: Indices) -> tuple[Any, Any]:
        """Return inputs and targets; raises TrainError when the batch has no such two parts."""
        return split(self._collate([self.samples[int(index)] for index in indices]), self.name)


def folder(name: str, path: str | None) -> Path:
    """Return the folder given for a data set that reads files; raises TrainError when there is none."""
    if path is None:
        raise TrainError(f"data {name!r} reads files: give the folder that holds them with --set train.data_path=DIR")
    found = Path(path).expanduser()
    if not found.is_dir():
        raise TrainError(f"data {name!r}: {found} is not a folder")
    return found
