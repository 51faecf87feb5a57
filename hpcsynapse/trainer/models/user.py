"""A model from a user's folder: class UserModel of bks_model.py, with the weights in model.pth where there are some."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import usercode
from hpcsynapse.trainer.plugins import check_arguments
from hpcsynapse.usercode.checks import ENTRY_POINTS, WEIGHTS, code_folder

# Where programs put a state dict inside a larger file; `model` is the one in a checkpoint of ours.
_NESTED = ("state_dict", "model")


def create(folder: str, args: Mapping[str, Any]) -> nn.Module:
    """Return a new UserModel(**args) of a folder, with its weights; raises TrainError naming the user's file and line.

    What the user's code raises is passed on as it is.
    """
    code = code_folder(Path(folder), "model")
    kind = usercode.attribute(code, *ENTRY_POINTS["model"])
    name = f"model {folder}: UserModel{usercode.where(kind)}"
    check_arguments(f"{name}: train.model_args", kind, **args)
    model = kind(**args)
    if not isinstance(model, nn.Module):
        raise TrainError(f"{name} is {type(model).__name__}, not a torch.nn.Module")
    if not callable(getattr(model, "loss", None)):
        raise TrainError(f"{name} has no method loss(output, target)")
    weights = next((path for place in (Path(folder), code) if (path := place / WEIGHTS).is_file()), None)
    if weights is not None:
        _load_weights(model, weights, name)
    return model


def _load_weights(model: nn.Module, path: Path, name: str) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # runs no code of the file
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise TrainError(f"{path}: no plain weights, as torch.save(model.state_dict(), file) writes: {error}") from None
    for key in _NESTED:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TrainError(f"{path} holds {type(state).__name__}, not a state dict of tensors")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise TrainError(f"{path} does not fit {name}: {error}") from None
