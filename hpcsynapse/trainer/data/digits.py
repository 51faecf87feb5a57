"""The real handwritten digits (8x8, 1797 of them) that scikit-learn ships; no file to fetch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, ImageDataset

VALIDATION = 360
SPLIT_SEED = 1797


def load(path: str | None = None, *, size: int = 28) -> Data:
    """Return 1437 training and 360 validation images (1, size, size), enlarged bilinearly, in a fixed split.

    The split is stratified: every digit keeps its share. `path` is not used.
    """
    if not 8 <= size <= 1024:
        raise TrainError(f"data 'digits': size = {size} must lie between 8 and 1024")
    images, labels = read()
    pixels = torch.from_numpy(images.astype(np.float32) / 16.0).reshape(-1, 1, 8, 8)
    if size != 8:
        pixels = functional.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    validation = held_out(labels)
    enlarged = pixels.numpy()
    mean, deviation = [float(enlarged[~validation].mean())], [float(enlarged[~validation].std())]
    parts = [
        ImageDataset(enlarged[chosen], labels[chosen], mean=mean, deviation=deviation)
        for chosen in (~validation, validation)
    ]
    return Data(train=parts[0], validation=parts[1], shape=(1, size, size), classes=10)


def read() -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return (1797, 64) values 0..16 and labels, from the file itself: importing scikit-learn takes two seconds."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise TrainError("data 'digits' comes with scikit-learn, which is not installed; pip install scikit-learn")
    file = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.data, digits.target.astype(np.int64)


def held_out(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return a mask of VALIDATION samples in which every label has its share, to within one."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by label, at random within a label
    mask = np.zeros(len(labels), dtype=bool)
    mask[order[(np.arange(VALIDATION) * len(labels)) // VALIDATION]] = True
    return mask
