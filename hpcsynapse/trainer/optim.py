"""Optimizers and the learning rate of every step."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.optimizer import Span
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.layerwise import Lamb, Lars


def make_optimizer(
    spec: TrainSpec, parameters: Iterable[nn.Parameter], fused: bool | None = None
) -> torch.optim.Optimizer:
    """Return the optimizer that a description asks for, over the parameters that are trained.

    `fused` asks for one pass over memory where torch has it (sgd, adam, adamw; on the CPU since torch 2.4,
    before that it is a RuntimeError).
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise TrainError(f"model {spec.model!r} has no parameter to train")
    groups: Any = _groups(spec, trained)
    lr, decay = spec.lr, spec.weight_decay
    match spec.optimizer:
        case "sgd":
            return torch.optim.SGD(
                groups, lr=lr, momentum=spec.momentum, nesterov=spec.nesterov, weight_decay=decay, fused=fused
            )
        case "adam":
            return torch.optim.Adam(groups, lr=lr, weight_decay=decay, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, weight_decay=decay, fused=fused)
        case "adadelta":
            return torch.optim.Adadelta(groups, lr=lr, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=lr, momentum=spec.momentum, weight_decay=decay)
        case "lamb":
            return Lamb(groups, lr=lr, weight_decay=decay)
        case "lars":
            return Lars(groups, lr=lr, momentum=spec.momentum, weight_decay=decay)
    raise TrainError(f"optimizer {spec.optimizer!r} is not known")


def _groups(spec: TrainSpec, trained: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Return the parameters in one group, or norms and biases, which have one dimension, in a group without decay."""
    if spec.decay_norms or not spec.weight_decay:
        return [{"params": trained}]
    flat = [parameter for parameter in trained if parameter.dim() <= 1]
    rest = [parameter for parameter in trained if parameter.dim() > 1]
    groups: list[dict[str, Any]] = [{"params": rest}, {"params": flat, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class Schedule:
    """The learning rate as a function of the step alone, so that resuming needs no state of its own.

    `gamma` multiplies it at every milestone, or it falls as a cosine or a line; `lr_scaling = linear` multiplies it by
    the number of ranks, and the warm-up then rises from the rate of one rank (Goyal et al. 2017, section 2.2), else
    from zero. Of workers that update one by one all updates count: a worker's step k is about update k x workers.
    """

    def __init__(self, spec: TrainSpec, ranks: int, span: Span) -> None:
        linear = spec.lr_scaling == "linear"
        self._peak = spec.lr * (ranks if linear else 1)
        self._start = spec.lr if linear else 0.0
        self._span, self._gamma, self._decay, self._end = span, spec.gamma, spec.lr_decay, spec.lr_end
        self._warmup = span.updates(f"{spec.warmup_epochs}e") if spec.warmup_epochs else spec.warmup_steps
        self._milestones = sorted(map(span.updates, spec.milestones))

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        update = step * self._span.workers
        if self._decay != "milestones" and update >= self._warmup:
            part = min(1.0, (update - self._warmup) / max(1.0, self._span.last - self._warmup))
            fall = part if self._decay == "linear" else (1 - math.cos(math.pi * part)) / 2
            return self._peak + (self._end - self._peak) * fall
        rate = self._peak
        if update < self._warmup:
            rate = self._start + (self._peak - self._start) * min(1.0, (update + 1) / self._warmup)
        return float(rate * self._gamma ** bisect_right(self._milestones, update))

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the learning rate of a step and return it; groups with an `lr_factor` have a rate of their own."""
        rate = self.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_factor", 1.0)
        return rate
