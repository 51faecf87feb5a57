"""Size and cost of the built-in models, measured without memory or arithmetic: on torch's meta device."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from hpcsynapse.trainer import models
from hpcsynapse.trainer.catalog import MODELS
from hpcsynapse.trainer.plugins import select

_CIFAR10 = ((3, 32, 32), 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """One model for one shape of input.

    `bytes` are those of the parameters as 32-bit floats, which is what an exchange of all gradients moves. `flops` are
    those of one sample's forward pass through convolutions and matrix products, a multiply-add counted as two.
    """

    name: str
    input: str
    classes: int
    parameters: int
    bytes: int
    flops: int
    source: str


def survey(name: str) -> list[ModelCost]:
    """Return the cost of a built-in model for its default input, and for CIFAR-10 where it has a small variant."""
    signature = inspect.signature(select("model", MODELS, name)).parameters
    costs = [measure(name, tuple(signature["shape"].default), signature["classes"].default)]
    if "small" in signature:
        costs.append(measure(name, *_CIFAR10))
    return costs


def measure(name: str, shape: tuple[int, ...], classes: int) -> ModelCost:
    """Return the cost of a built-in model for samples of `shape` (C, H, W)."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = models.create(name, {}, shape, classes).eval()
        model(torch.empty(1, *shape))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return ModelCost(
        name=name,
        input="x".join(map(str, shape)),
        classes=classes,
        parameters=parameters,
        bytes=4 * parameters,
        flops=counter.get_total_flops(),
        source=MODELS[name].source,
    )
