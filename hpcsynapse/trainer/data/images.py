"""Pictures in folders, one a class: train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, Indices, folder
from hpcsynapse.trainer.data.pictures import DEVIATION, MEAN, Form, is_picture, stacked


class PictureFiles:
    """Picture files with the labels of their classes, read when they are asked for."""

    def __init__(self, files: list[str], labels: list[int], form: Form) -> None:
        self._files, self.labels, self._form = files, np.asarray(labels, dtype=np.int64), form

    def __len__(self) -> int:
        return len(self._files)

    @property
    def plain(self) -> PictureFiles:
        """The same pictures cut out in the middle, for those that are set aside from training."""
        return PictureFiles(self._files, self.labels.tolist(), self._form.plain)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return pictures (n, 3, size, size) float32 and labels (n,) int64; raises TrainError naming a bad file."""
        files = [self._files[index] for index in indices.tolist()]
        return stacked([self._form.read(Path(file), file) for file in files], self.labels[indices])


def load(
    path: str | None,
    *,
    size: int = 224,
    resize: int | None = None,
    random_crop: bool = False,
    mean: Sequence[float] = MEAN,
    deviation: Sequence[float] = DEVIATION,
) -> Data:
    """Return the pictures below a folder; classes are its folders in the order of their names.

    `random_crop` is for training alone. Further arguments are those of `Form`.
    """
    root = folder("images", path)
    form = Form(size, resize, random_crop, mean, deviation)
    inner = root / "train"
    top = inner if inner.is_dir() else root
    names = _classes(top)
    validation = next((root / name for name in ("val", "validation") if top is inner and (root / name).is_dir()), None)
    if validation is not None and (unknown := set(_classes(validation)) - set(names)):
        raise TrainError(f"data 'images': class {min(unknown)!r} of {validation} is none of {top}")
    return Data(
        train=_files(top, names, form),
        validation=None if validation is None else _files(validation, names, form.plain),
        shape=form.shape,
        classes=len(names),
        names=tuple(names),
    )


def _classes(root: Path) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise TrainError(f"data 'images': {root} has no folders, one for each class of pictures")
    return names


def _files(root: Path, names: Sequence[str], form: Form) -> PictureFiles:
    files, labels = [], []
    for label, name in enumerate(names):
        if not (root / name).is_dir():
            continue  # of validation: a class without pictures
        found = sorted(entry.path for entry in os.scandir(root / name) if is_picture(entry.name))
        files += found
        labels += [label] * len(found)
    if not files:
        raise TrainError(f"data 'images': the folders in {root} hold no pictures (.jpg, .png, .bmp, .webp)")
    return PictureFiles(files, labels, form)
