"""One-hot targets are learnt and counted as the labels that they stand for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import data
from hpcsynapse.trainer.data.split import split
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.tally import Tally

ROWS = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
LABELS = [1, 2, 0, 1]


def write(folder: Path, kind: str, targets: Any, val_targets: Any = None, inputs: Any = None) -> str:
    """Write inputs that are scores of their own: 2 for the classes 1, 2, 2 and 1, else 0."""
    arrays = {"inputs": 2.0 * np.eye(3)[[1, 2, 2, 1]] if inputs is None else inputs, "targets": targets}
    if val_targets is not None:
        arrays |= {"val_inputs": arrays["inputs"], "val_targets": val_targets}
    if kind == "npy":
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(folder / "data.h5", "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return str(folder)


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "bool"])
def test_rows_of_any_type_are_labels(tmp_path: Path, kind: str, dtype: str) -> None:
    rows = ROWS.astype(dtype)
    found = data.load(kind, write(tmp_path, kind, rows, rows[::-1]), {"one_hot": True})
    assert found.classes == 3
    _, targets = found.train.batch(np.array([3, 1, 0]))
    assert (targets.dtype, targets.tolist()) == (torch.int64, [1, 2, 1])
    assert found.validation is not None
    assert found.validation.batch(np.arange(4))[1].tolist() == LABELS[::-1]


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
def test_loss_and_accuracy_by_hand(tmp_path: Path, kind: str) -> None:
    found = data.load(kind, write(tmp_path, kind, ROWS.astype(float)), {"one_hot": True})
    scores, targets = found.train.batch(np.arange(4))
    objective = Objective(nn.Identity())
    # Three samples have the score 2 at their class, one has 0 there and 2 at another.
    right = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert float(objective.loss(scores, targets)) == pytest.approx((3 * right + right + 2) / 4)
    tally = Tally(objective)
    tally.add(scores, targets, 4)
    result = tally.total()
    assert result.metrics["accuracy"] == 0.75
    assert result.counts is not None and result.counts.total == 4


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
def test_without_the_option_numbers_stay_numbers(tmp_path: Path, kind: str) -> None:
    found = data.load(kind, write(tmp_path, kind, ROWS.astype(float)), {})
    assert found.classes is None
    assert torch.equal(found.train.batch(np.arange(4))[1], torch.from_numpy(ROWS).float())


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
@pytest.mark.parametrize("row", [[0, 1, 1], [0, 0, 0], [0, 0.5, 0.5], [0, 2, 0], [0, np.nan, 1], [0, np.nan, 0]])
def test_what_is_not_one_hot_is_shown(tmp_path: Path, kind: str, row: list[float]) -> None:
    folder = write(tmp_path, kind, np.array([[0, 1, 0], row, [1, 0, 0], [1, 0, 0]], dtype=float))
    with pytest.raises(TrainError, match=r"targets.*are not one-hot"):
        data.load(kind, folder, {"one_hot": True}).train.batch(np.arange(4))


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
def test_shapes_and_numbers_of_classes_that_do_not_fit(tmp_path: Path, kind: str) -> None:
    with pytest.raises(TrainError, match="one_hot = 'no' must be true or false"):
        data.load(kind, str(tmp_path), {"one_hot": "no"})
    with pytest.raises(TrainError, match=r"one_hot is for targets"):
        data.load(kind, write(tmp_path, kind, np.array(LABELS)), {"one_hot": True})
    with pytest.raises(TrainError, match="of 3 classes, where 4 are expected"):
        data.load(kind, write(tmp_path, kind, ROWS), {"one_hot": True, "classes": 4})
    with pytest.raises(TrainError, match=r"val_targets.*of 2 classes, where 3 are expected"):
        data.load(kind, write(tmp_path, kind, ROWS, np.eye(2)[[0, 1, 0, 1]]), {"one_hot": True})


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
@pytest.mark.parametrize("one_hot", [True, False])
def test_samples_are_set_aside_of_every_class_alike(tmp_path: Path, kind: str, one_hot: bool) -> None:
    labels = np.array([0] * 10 + [1] * 30 + [2] * 20)
    folder = write(tmp_path, kind, np.eye(3)[labels] if one_hot else labels, inputs=np.zeros((60, 2)))
    found = split(data.load(kind, folder, {"one_hot": one_hot}), 0.0, 0.0, folds=5, fold=2)
    assert found.validation is not None
    targets = found.validation.batch(np.arange(len(found.validation)))[1]
    assert torch.bincount(targets).tolist() == [2, 6, 4]
