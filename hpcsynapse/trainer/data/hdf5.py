"""Inputs and targets in an HDF5 file, of which a rank reads the samples that it takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, Indices, folder
from hpcsynapse.trainer.data.one_hot import check, classes_of, labels_of
from hpcsynapse.trainer.data.sharding import CONTIGUOUS


class Hdf5Dataset:
    """Two data sets of a file, samples along their first axes; every process opens the file for itself."""

    def __init__(
        self, file: Path, inputs: str, targets: str, one_hot: bool = False, classes: int | None = None
    ) -> None:
        self._file, self._names, self._one_hot = file, (inputs, targets), one_hot
        self._open: tuple[int, list[Any]] = (-1, [])
        first, second = self._arrays()
        if len(first) != len(second) or not len(first):
            raise TrainError(f"{file}: {len(first)} {inputs} and {len(second)} {targets} are no samples")
        self.shape, self._samples = tuple(int(side) for side in first.shape[1:]), len(first)
        whole = second.ndim == 1 and second.dtype.kind in "iu"
        self.labels = second[:].astype(np.int64) if whole else None
        self.classes = classes
        if one_hot:
            self.classes = classes_of(second, classes, f"{file}: {targets}")
            self.labels = labels_of(second[:], f"{file}: {targets}")
        elif classes is None and self.labels is not None:
            self.classes = int(self.labels.max()) + 1

    def __len__(self) -> int:
        return self._samples

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return inputs float32 and targets (int64 labels or float32)."""
        order, back = np.unique(indices, return_inverse=True)  # h5py takes numbers that rise
        inputs, targets = (array[order][back] for array in self._arrays())
        if self._one_hot:
            targets = labels_of(targets, f"{self._file}: {self._names[1]}")
        wanted = np.int64 if targets.dtype.kind in "iu" else np.float32
        return torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(targets.astype(wanted))

    def _arrays(self) -> list[Any]:
        if self._open[0] != os.getpid():  # an open file does not go along to another process
            try:
                opened = h5py.File(self._file, "r")
                self._open = (os.getpid(), [opened[name] for name in self._names])
            except (OSError, KeyError) as error:
                raise TrainError(f"{self._file}: cannot be read: {error}") from None
            for name, array in zip(self._names, self._open[1], strict=True):
                if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "iufb" or not array.ndim:
                    raise TrainError(f"{self._file}: {name} is no array of numbers")
        return self._open[1]


def load(
    path: str | None,
    *,
    file: str = "data.h5",
    inputs: str = "inputs",
    targets: str = "targets",
    val_inputs: str = "val_inputs",
    val_targets: str = "val_targets",
    classes: int | None = None,
    one_hot: bool = False,
) -> Data:
    """Return the samples of two arrays of a file in the folder; those for validation where it has them.

    Unless `classes` is given it is the largest label plus one, where targets are a row of labels. `one_hot` says that
    targets (n, classes) are one-hot rows: they are learnt as labels are.
    """
    check(one_hot)
    source = folder("hdf5", path) / file
    train = Hdf5Dataset(source, inputs, targets, one_hot, classes)
    with h5py.File(source, "r") as opened:
        has_validation = val_inputs in opened
    validation = Hdf5Dataset(source, val_inputs, val_targets, one_hot, train.classes) if has_validation else None
    return Data(train=train, validation=validation, shape=train.shape, classes=train.classes, sharding=CONTIGUOUS)
