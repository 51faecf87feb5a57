"""Update rules for large batches, whose rate is scaled layer by layer to the size of the layer's parameters.

Parameters of one dimension, which are norms and biases, take the plain rate, as is usual. Rates have defaults because
Horovod makes the optimizer anew from its groups alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LARS_TRUST = 0.001  # You, Gitman and Ginsburg 2017


class Lars(torch.optim.Optimizer):
    """SGD with momentum, the rate of a layer scaled by |w| / |gradient| (You et al. 2017, algorithm 1)."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # nobody here gives a closure
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        scale: Tensor | float = 1.0
        if parameter.dim() > 1:
            size, steep = parameter.norm(), gradient.norm()
            scale = torch.where((size > 0) & (steep > 0), _LARS_TRUST * size / (steep + decay * size + 1e-12), 1.0)
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        way = gradient.add(parameter, alpha=decay).mul_(scale).mul_(group["lr"])
        parameter.sub_(state["momentum_buffer"].mul_(group["momentum"]).add_(way))


class Lamb(torch.optim.Optimizer):
    """Adam whose update of a layer is scaled to the layer's norm (You et al. 2020, algorithm 2)."""

    def __init__(
        self,
        params: Any,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # nobody here gives a closure
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        first, second = group["betas"]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
        state["step"] += 1
        mean = state["exp_avg"].mul_(first).add_(gradient, alpha=1 - first)
        square = state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        spread = (square / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        way = (mean / (1 - first ** state["step"])).div_(spread).add_(parameter, alpha=group["weight_decay"])
        if parameter.dim() > 1:
            size, length = parameter.norm(), way.norm()
            way.mul_(torch.where((size > 0) & (length > 0), size / length, 1.0))
        parameter.sub_(way.mul_(group["lr"]))
