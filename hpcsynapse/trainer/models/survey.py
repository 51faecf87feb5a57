"""Size and cost of the built-in models, measured without memory or arithmetic: on torch's meta device."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from hpcsynapse.table import BYTES, KEY, LARGE, column, columns
from hpcsynapse.trainer import models
from hpcsynapse.trainer.catalog import MODELS
from hpcsynapse.trainer.plugins import select

_CIFAR10 = ((3, 32, 32), 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """One model for one shape of input; the fields, in this order, are its columns."""

    name: str = column("name of the model", head="model", priority=KEY, always=True)
    input: str = column("shape of a sample, channels x height x width", priority=KEY)
    classes: int = column("classes told apart")
    parameters: int = column("trained numbers", unit=LARGE, priority=7)
    bytes: int = column(
        "bytes of the parameters as 32-bit floats: what an exchange of all gradients moves", unit=BYTES, priority=8
    )
    flops: int = column(
        "FLOPs of a sample's forward pass: convolutions and matrix products, a multiply-add as two",
        head="FLOPs",
        unit=LARGE,
        priority=8,
    )
    source: str = column("publication that describes it", priority=4)


COLUMNS = columns(ModelCost)


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
