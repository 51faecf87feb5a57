"""Optimizers and the learning rate of every step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import torch
from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import TrainSpec


def make_optimizer(
    spec: TrainSpec, parameters: Iterable[nn.Parameter], fused: bool | None = None
) -> torch.optim.Optimizer:
    """Return the optimizer that a description asks for, over the parameters that are trained.

    `fused` asks for one pass over memory where torch has it (sgd, adam; on the CPU since torch 2.4, before that it is a
    RuntimeError).
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise TrainError(f"model {spec.model!r} has no parameter to train")
    lr, decay = spec.lr, spec.weight_decay
    match spec.optimizer:
        case "sgd":
            return torch.optim.SGD(
                trained, lr=lr, momentum=spec.momentum, nesterov=spec.nesterov, weight_decay=decay, fused=fused
            )
        case "adam":
            return torch.optim.Adam(trained, lr=lr, weight_decay=decay, fused=fused)
        case "adadelta":
            return torch.optim.Adadelta(trained, lr=lr, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(trained, lr=lr, momentum=spec.momentum, weight_decay=decay)
    raise TrainError(f"optimizer {spec.optimizer!r} is not known")


class Schedule:
    """The learning rate as a function of the step alone, so that resuming needs no state of its own.

    `gamma` multiplies it at every milestone; `lr_scaling = linear` multiplies it by the number of ranks, and the
    warm-up then rises from the rate of one rank (Goyal et al. 2017, section 2.2), else from zero.
    """

    def __init__(self, spec: TrainSpec, ranks: int) -> None:
        linear = spec.lr_scaling == "linear"
        self._peak = spec.lr * (ranks if linear else 1)
        self._start = spec.lr if linear else 0.0
        self._warmup, self._milestones, self._gamma = spec.warmup_steps, spec.milestones, spec.gamma

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rate = self._peak
        if step < self._warmup:
            rate = self._start + (self._peak - self._start) * (step + 1) / self._warmup
        return float(rate * self._gamma ** bisect_right(self._milestones, step))

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the learning rate of a step and return it."""
        rate = self.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate
