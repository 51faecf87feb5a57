"""Data from a user's folder: classes UserDataset and UserValDataset of bks_dataset.py, each made with a data path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import usercode
from hpcsynapse.trainer.data.base import Data, MapDataset
from hpcsynapse.trainer.plugins import check_arguments
from hpcsynapse.usercode.checks import ENTRY_POINTS, FOLDER_ARGUMENTS, VALIDATION_CLASS, code_folder


def load(folder: str, path: str | None, args: Mapping[str, Any]) -> Data:
    """Return UserDataset(path, **args), and for validation UserValDataset where there is one.

    Validation samples may lie elsewhere (argument `val_path`) or have a loader of their own (`val_loader`, a folder);
    with either given, a loader without UserValDataset serves them by its UserDataset. Raises TrainError naming the
    user's file and line; what the user's code raises is passed on as it is.
    """
    own = {key: value for key, value in args.items() if key not in FOLDER_ARGUMENTS}
    val_path, val_loader = (args.get(name) for name in FOLDER_ARGUMENTS)
    train = _create(folder, ENTRY_POINTS["loader"][1], path, own)
    other = val_loader or folder
    validation = None
    if _defines(other, VALIDATION_CLASS):
        validation = _create(other, VALIDATION_CLASS, val_path or path, own)
    elif val_path or val_loader:
        validation = _create(other, ENTRY_POINTS["loader"][1], val_path or path, own)
    return Data(train=train, validation=validation, names=_names(train.samples))


def _names(samples: Any) -> tuple[str, ...]:
    """Return the names of the classes where a data set has them as torchvision's do: a list `classes` of texts."""
    classes = getattr(samples, "classes", ())
    known = isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes)
    return tuple(classes) if known else ()


def _defines(folder: str, name: str) -> bool:
    file = ENTRY_POINTS["loader"][0]
    return hasattr(usercode.load(code_folder(Path(folder), "loader"), file), name)


def _create(folder: str, class_name: str, path: str | None, args: Mapping[str, Any]) -> MapDataset:
    code, file = code_folder(Path(folder), "loader"), ENTRY_POINTS["loader"][0]
    kind = usercode.attribute(code, file, class_name)
    name = f"data {folder}: {class_name}{usercode.where(kind)}"
    check_arguments(f"{name}: the data path and train.data_args", kind, path, **args)
    samples = kind(path, **args)
    for method in ("__len__", "__getitem__"):
        if not hasattr(samples, method):
            raise TrainError(f"{name} has no {method}")
    return MapDataset(samples, getattr(usercode.load(code, file), "collate", None), name)
