"""Cutting a model into stages of about as many parameters each, in place: a rank keeps one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.dual.cut import is_plain, iterate_layers, overwrite_nothing

# A piece of a model, and where the model holds what it is made of: (module, name there).
Piece = tuple[nn.Module, list[tuple[nn.Module, str]]]


def pieces(model: nn.Module) -> list[Piece]:
    """Return what a model computes one after another: the layers of an nn.Sequential, or its own `pieces()`.

    Raises TrainError for a model that has neither.
    """
    own: Any = getattr(model, "pieces", None)
    if own is not None:
        found: list[Piece] = own()
        return found
    if not is_plain(model):
        raise TrainError(
            f"only a torch.nn.Sequential, or a model with a method `pieces`, can be cut into stages, and "
            f"{type(model).__name__} is none; use --strategy sharded, or --model gpt or dualnet"
        )
    return [(layer.module, [(layer.parent, layer.key)]) for layer in iterate_layers(model)]


def boundaries(sizes: Sequence[int], stages: int) -> list[int]:
    """Return where stages begin and end, so that the largest is as small as it can be and none is empty.

    Raises TrainError where there are fewer pieces than stages.
    """
    if len(sizes) < stages:
        raise TrainError(f"the model has {len(sizes)} layers that can be cut apart, too few for {stages} stages")
    low, high = max(sizes), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_filled(sizes, middle, stages)) <= stages else (middle + 1, high)
    return [0, *_filled(sizes, low, stages)]


def _filled(sizes: Sequence[int], most: int, stages: int) -> list[int]:
    """Return where stages end that are filled one after another, and leave a piece for each that is still to come."""
    ends: list[int] = []
    total = 0
    for index, size in enumerate(sizes):
        behind = stages - len(ends) - 1  # stages that must have a piece each
        if index and total and (total + size > most or len(sizes) - index == behind):
            ends.append(index)
            total = 0
        total += size
    return [*ends, len(sizes)]


def keep(model: nn.Module, stage: int, stages: int) -> nn.Sequential:
    """Remove from a model, in place, what belongs to other stages, and return what this one computes.

    Parameters keep their names in the model, so that the states of all stages together are that of the whole.
    """
    found = pieces(model)
    sizes = [1 + sum(parameter.numel() for parameter in module.parameters()) for module, _ in found]
    ends = boundaries(sizes, stages)
    own = range(ends[stage], ends[stage + 1])
    for index, (_, places) in enumerate(found):
        for parent, key in places if index not in own else ():
            parent._modules.pop(key, None)
    if stage:  # overwriting what came in is refused by autograd
        overwrite_nothing(found[own.start][0])
    return nn.Sequential(*(found[index][0] for index in own))
