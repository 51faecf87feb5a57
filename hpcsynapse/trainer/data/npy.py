"""Memory-mapped arrays: a rank reads the samples that it takes, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, Indices, folder
from hpcsynapse.trainer.data.sharding import CONTIGUOUS


class MappedDataset:
    """Inputs (n, ...) and targets (n, ...) of two files; whole-number targets are labels."""

    def __init__(self, inputs: NDArray[Any], targets: NDArray[Any]) -> None:
        self.inputs, self.targets = inputs, targets
        self._target_type = torch.int64 if targets.dtype.kind in "iub" else torch.float32

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return inputs float32 and targets (int64 labels or float32)."""
        inputs, targets = np.ascontiguousarray(self.inputs[indices]), np.ascontiguousarray(self.targets[indices])
        return torch.from_numpy(inputs).to(torch.float32), torch.from_numpy(targets).to(self._target_type)


def load(
    path: str | None,
    *,
    inputs: str = "inputs.npy",
    targets: str = "targets.npy",
    val_inputs: str = "val_inputs.npy",
    val_targets: str = "val_targets.npy",
    classes: int | None = None,
) -> Data:
    """Return the samples along the first axis of the two arrays; validation where its files are there.

    Unless `classes` is given it is the largest label plus one, where targets are a vector of labels.
    """
    root = folder("npy", path)
    train = _pair(root / inputs, root / targets)
    validation = None
    if (root / val_inputs).is_file() or (root / val_targets).is_file():
        validation = _pair(root / val_inputs, root / val_targets)
        if validation.inputs.shape[1:] != train.inputs.shape[1:]:
            raise TrainError(
                f"{root / val_inputs}: samples of shape {validation.inputs.shape[1:]}, "
                f"but {train.inputs.shape[1:]} in {inputs}"
            )
    if classes is None and train.targets.ndim == 1 and train.targets.dtype.kind in "iub":
        classes = int(train.targets.max()) + 1
    return Data(
        train=train, validation=validation, shape=tuple(train.inputs.shape[1:]), classes=classes, sharding=CONTIGUOUS
    )


def _pair(inputs: Path, targets: Path) -> MappedDataset:
    first, second = _map(inputs), _map(targets)
    if len(first) != len(second):
        raise TrainError(f"{targets}: {len(second)} targets, but {inputs} holds {len(first)} inputs")
    return MappedDataset(first, second)


def _map(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise TrainError(f"data 'npy': {file} does not exist") from None
    except (OSError, ValueError, EOFError) as error:
        size = file.stat().st_size if file.is_file() else 0
        raise TrainError(f"{file}: not a whole .npy file ({size} bytes): {error}") from None
    if not isinstance(array, np.ndarray):
        raise TrainError(f"{file}: offset 0: not a .npy file of one array")
    if array.ndim == 0 or not len(array):
        raise TrainError(f"{file}: holds no samples (shape {array.shape} in the header at offset 10)")
    if array.dtype.kind not in "iubf":
        raise TrainError(f"{file}: values of type {array.dtype} (header at offset 10) are not numbers")
    return array
