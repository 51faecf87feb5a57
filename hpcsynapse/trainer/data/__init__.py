"""Data sets by name: a literal table, imported on selection. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.catalog import DATA
from hpcsynapse.trainer.data import user
from hpcsynapse.trainer.data.base import Data, Dataset, MapDataset
from hpcsynapse.trainer.plugins import check_arguments, load_target, select
from hpcsynapse.usercode.checks import is_folder


def load(name: str, path: str | None, args: Mapping[str, Any]) -> Data:
    """Return a data set; `args` are its options.

    A `package.module:attribute` is called as `attribute(path, **args)` and returns a data set with `batch(indices)`
    or with `__getitem__`, or a pair of them (training, validation); a folder holds bks_dataset.py (`user`). Raises
    TrainError when files are missing or malformed, naming the file and the offset.
    """
    if is_folder(name):
        return user.load(name, path, args)
    builtin = ":" not in name
    loader = select("data set", DATA, name) if builtin else load_target("data set", name)
    check_arguments(f"data set {name!r}: train.data_args", loader, path, **args)
    result = loader(path, **args)
    if isinstance(result, Data):
        return result
    pair = result if isinstance(result, tuple) else (result, None)
    if len(pair) != 2:
        raise TrainError(f"data set {name!r} returned {len(pair)} parts; a pair (training, validation) is wanted")
    train, validation = (_as_dataset(name, part) for part in pair)
    if train is None:
        raise TrainError(f"data set {name!r} returned no training samples")
    return Data(train=train, validation=validation)


def _as_dataset(name: str, samples: Any) -> Dataset | None:
    if samples is None:
        return None
    if not hasattr(samples, "__len__"):
        raise TrainError(f"data set {name!r}: {type(samples).__name__} has no length")
    dataset: Dataset = samples if hasattr(samples, "batch") else MapDataset(samples)
    return dataset
