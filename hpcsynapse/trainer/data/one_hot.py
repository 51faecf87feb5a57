"""One-hot targets: rows of zeros with a one at the class of the sample, as some programs store labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsynapse.errors import TrainError


def labels_of(values: NDArray[Any], source: str) -> NDArray[np.int64]:
    """Return the labels (n,) of one-hot rows (n, classes), by which loss and metrics are those of labels.

    Raises TrainError naming the source, and the first row that is not one 1 and zeros.
    """
    if values.ndim != 2 or values.shape[1] < 2:
        raise TrainError(f"{source}: one_hot is for targets (samples, 2 or more classes), not {values.shape}")
    wrong = (np.count_nonzero(values, axis=1) != 1) | (values.max(axis=1) != 1)
    if wrong.any():
        row = np.array2string(values[int(wrong.argmax())], threshold=12, edgeitems=4)
        raise TrainError(f"{source}: targets {row} are not one-hot, a single 1 among zeros; leave one_hot out")
    labels: NDArray[np.int64] = values.argmax(axis=1).astype(np.int64)
    return labels


def check(one_hot: bool) -> None:
    """Raise TrainError for an argument that is neither true nor false."""
    if not isinstance(one_hot, bool):
        raise TrainError(f"one_hot = {one_hot!r} must be true or false")


def classes_of(values: Any, expected: int | None, source: str) -> int:
    """Return how many classes the rows of an array have; raises TrainError unless they are as many as expected."""
    labels_of(np.asarray(values[:1]), source)
    found = int(values.shape[1])
    if expected is not None and expected != found:
        raise TrainError(f"{source}: one-hot targets of {found} classes, where {expected} are expected")
    return found
