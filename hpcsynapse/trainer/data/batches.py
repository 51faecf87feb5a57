"""Batches of any form: tensors, and lists, tuples and dicts of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from copy import copy
from typing import Any

import torch
from torch import Tensor

from hpcsynapse.errors import TrainError

# What the two parts of a batch are called where it is a dict.
_NAMES = (("inputs", "targets"), ("input", "target"), ("data", "target"), ("data", "targets"))


def map_tensors(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a value with every tensor changed: one, or a list, tuple or dict of any depth.

    What has a `to` of its own, such as a PackedSequence, is given to `change` whole; anything else stays as it is.
    """
    if isinstance(value, Tensor) or callable(getattr(value, "to", None)):
        return change(value)
    if isinstance(value, MutableMapping):
        changed = copy(value)
        for key, item in value.items():
            changed[key] = map_tensors(item, change)
        return changed
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple takes its items one by one
        return type(value)(*(map_tensors(item, change) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)([map_tensors(item, change) for item in value])
    return value


def to_device(value: Any, device: torch.device) -> Any:
    """Return a tensor on a device, or a list, tuple or dict of any depth with its tensors there."""
    return map_tensors(
        value, lambda one: one.to(device, non_blocking=True) if isinstance(one, Tensor) else one.to(device)
    )


def split(batch: Any, source: str) -> tuple[Any, Any]:
    """Return inputs and targets of a user's batch: a pair, or a dict with both names; any other dict is given whole to
    model and loss.

    Raises TrainError naming `source` when it is neither.
    """
    if isinstance(batch, Mapping):
        for inputs, targets in _NAMES:
            if inputs in batch and targets in batch:
                return batch[inputs], batch[targets]
        return batch, batch
    if isinstance(batch, (list, tuple)) and len(batch) == 2:
        return batch[0], batch[1]
    form = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (list, tuple)) else type(batch).__name__
    raise TrainError(f"{source}: a batch must be a pair (inputs, targets) or a dict, not {form}")
