"""Setting samples aside for validation and test, of every class alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, Dataset, Indices, MapDataset


class Subset:
    """Some samples of another data set, by their numbers there."""

    def __init__(self, data: Dataset, numbers: Indices) -> None:
        self._data, self.numbers = data, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, indices: Indices) -> tuple[Any, Any]:
        """Return inputs and targets of the samples with these numbers."""
        return self._data.batch(self.numbers[indices])


def split(data: Data, validation: float, test: float, folds: int = 0, fold: int = 1) -> Data:
    """Return a data set with shares of its training samples set aside, the same ones in every run.

    With `folds`, one of them (`fold`, counted from 1) is for validation; the test's share is set aside first. Of every
    class alike where the data set has `labels` (a user's: `labels` or `targets`), one number a sample; else at random.
    Raises TrainError where there are validation samples already, or too few to set some aside.
    """
    if not validation and not test and not folds:
        return data
    if (validation or folds) and data.validation is not None:
        name = "folds" if folds else "validation_share"
        raise TrainError(f"train.{name}: the data set brings validation samples of its own; leave it out")
    labels = _labels(data.train)
    parts = chosen(labels, (validation, test))
    if folds:
        parts[:2] = _in_folds(parts[0], labels, folds, fold)
    for part, share, name in zip(parts[1:], (validation, test), ("validation_share", "test_share"), strict=True):
        if share and not len(part):
            raise TrainError(f"train.{name} = {share:g} of {len(data.train)} samples is none")
    whole = getattr(data.train, "plain", data.train)  # without what is random for training alone
    return replace(
        data,
        train=Subset(data.train, parts[0]),
        validation=Subset(whole, parts[1]) if validation or folds else data.validation,
        test=Subset(whole, parts[2]) if test else None,
    )


def chosen(labels: NDArray[Any], shares: tuple[float, ...]) -> list[Indices]:
    """Return numbers of samples, rising: those that are left, then those of every share."""
    random = np.random.default_rng(0)  # not the run's seed: repeats are to be compared on the same samples
    parts: list[list[NDArray[Any]]] = [[] for _ in range(1 + len(shares))]
    _, classes = np.unique(labels, return_inverse=True)
    by_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(np.bincount(classes))[:-1])
    for members in by_class:
        order, begin = random.permutation(members), 0
        for part, share in enumerate(shares, 1):
            count = int(share * len(order) + random.random())  # rounded so that many small classes have their share
            parts[part].append(order[begin : begin + count])
            begin += count
        parts[0].append(order[begin:])
    return [np.sort(np.concatenate(part)).astype(np.int64) for part in parts]


def _in_folds(numbers: Indices, labels: NDArray[Any], folds: int, fold: int) -> list[Indices]:
    """Return the samples of all other folds, then those of one; by class, folds differ by one sample at most."""
    if folds > len(numbers):
        raise TrainError(f"train.folds = {folds} of {len(numbers)} samples leaves folds without any")
    random = np.random.default_rng(0)
    mixed = random.permutation(numbers)
    dealt = mixed[np.argsort(labels[mixed], kind="stable")]  # class by class, each to one fold after the other
    own = np.arange(len(dealt)) % folds == fold - 1
    return [np.sort(part).astype(np.int64) for part in (dealt[~own], dealt[own])]


def _labels(data: Dataset) -> NDArray[Any]:
    source: Any = data.samples if isinstance(data, MapDataset) else data
    for name in ("labels", "targets"):
        found = np.asarray(getattr(source, name, ()))
        if found.shape == (len(data),) and found.dtype.kind in "iu":
            return found
    return np.zeros(len(data), np.int64)
