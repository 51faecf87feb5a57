"""Size and cost of the built-in models, measured without memory or arithmetic: on torch's meta device."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
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
    input: str = column("shape of a sample: channels x height x width, or tokens", priority=KEY)
    classes: int = column("classes told apart")
    parameters: int = column("trained numbers", unit=LARGE, priority=7)
    bytes: int = column(
        "bytes of the parameters as 32-bit floats: what an exchange of all gradients moves", unit=BYTES, priority=8
    )
    multiply_adds: int = column("multiply-adds of a sample's forward pass: half of the FLOPs", unit=LARGE, priority=6)
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
    """Return the cost of a built-in model for samples of `shape`: (C, H, W), or (tokens,)."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = models.create(name, {}, shape, classes).eval()
        model(_samples(model, 1, shape))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return ModelCost(
        name=name,
        input="x".join(map(str, shape)),
        classes=classes,
        parameters=parameters,
        bytes=4 * parameters,
        multiply_adds=counter.get_total_flops() // 2,
        flops=counter.get_total_flops(),
        source=MODELS[name].source,
    )


def training_flops(
    name: str, args: Mapping[str, Any], shape: tuple[int, ...] | None, classes: int | None
) -> int | None:
    """Return FLOPs of one sample's forward and backward pass, or None for what is no built-in model of one input.

    What is computed a second time to save memory is not counted.
    """
    if name not in MODELS or shape is None:
        return None
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = models.create(name, args, shape, classes)
        found = model(_samples(model, 2, shape))  # batch norm learns nothing from one sample
        outputs = found if isinstance(found, tuple) else (found,)
        sums = [one.sum() for one in outputs if isinstance(one, Tensor) and one.requires_grad]
        torch.autograd.backward(sums)
    return int(counter.get_total_flops()) // 2


def _samples(model: nn.Module, count: int, shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(count, *shape, dtype=getattr(model, "input_type", torch.float32))
