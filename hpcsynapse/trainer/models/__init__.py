"""Models by name: a literal table, imported on selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.catalog import MODELS
from hpcsynapse.trainer.models import user
from hpcsynapse.trainer.plugins import check_arguments, load_target, select
from hpcsynapse.usercode.checks import is_folder


def create(
    name: str, args: Mapping[str, Any], shape: tuple[int, ...] | None = None, classes: int | None = None
) -> nn.Module:
    """Return a new model; built-in ones adapt to samples of `shape` (C, H, W) and to the number of `classes`.

    A `package.module:attribute`, and the UserModel of a folder, is called with `args` alone. Raises TrainError when
    the name is unknown, the arguments do not fit, or what comes back is no Module.
    """
    if is_folder(name):
        return user.create(name, args)
    builtin = ":" not in name
    factory = select("model", MODELS, name) if builtin else load_target("model", name)
    arguments = dict(args)
    if builtin:
        if shape is not None:
            arguments.setdefault("shape", shape)
        if classes is not None:
            arguments.setdefault("classes", classes)
    check_arguments(f"model {name!r}: train.model_args", factory, **arguments)
    model = factory(**arguments)
    if not isinstance(model, nn.Module):
        raise TrainError(f"model {name!r} is {type(model).__name__}, not a torch.nn.Module")
    return model
