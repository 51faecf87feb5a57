"""What the halves are trained towards: the formulas of the dual nets, on tensors alone.

Notation: a = phi(x) is the activation at the cut, z its target, y the labels, c the classification loss of net2
summed over the batch; rows of a and z are samples. Measured behaviour: benchmarks/dual_nets.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Gradient = Callable[[Tensor], Tensor]
_LEAST = 1e-12  # norm by which a distance is divided at least


def descend(
    activation: Tensor,
    first: Tensor,
    gradient: Gradient,
    *,
    steps: int,
    rate: float,
    beta: float,
    multiplier: Tensor | None = None,
) -> Tensor:
    """Return z after `steps` gradient steps on c(z) + beta/2 ||z - a - u||^2 from z = a, of length `rate` / beta.

    `first` is dc/dz at a, which the caller has from its own backward pass; `gradient` gives it elsewhere; u is the
    scaled multiplier of ADMM (Boyd et al. 2011, section 3.1.1), or nothing: z = a - first / beta for one whole step.
    """
    centre = activation if multiplier is None else activation + multiplier
    target, slope = activation, first
    for number in range(steps):
        if number:
            slope = gradient(target)
        target = target - rate / beta * (slope + beta * (target - centre))
    return target


def next_multiplier(multiplier: Tensor, activation: Tensor, target: Tensor, damping: float) -> Tensor:
    """Return u for the next time these samples come: damping * (u + a - z); 1 is the textbook's."""
    return damping * (multiplier + activation - target)


def regression(output: Tensor, activation: Tensor, difference: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return beta/2 mean_i ||output_i - (activation_i + difference_i)||^2, ADMM's penalty, and its gradient.

    At output = activation, for one whole step to z, the gradient is that of the mean classification loss: with one
    step at both sides net1 learns as by backpropagation, at the same learning rate. The gradient is written over
    `difference`: it is alive when net1 needs most memory.
    """
    gradient = difference.sub_(output.detach()).add_(activation)
    loss = 0.5 * beta / len(gradient) * gradient.square().sum()
    return loss, gradient.mul_(-beta / len(gradient))


def distance(own: Tensor, other: Tensor, norm: str) -> Tensor:
    """Return the source's distance (1/2N) sum_i ||own_i - other_i||^2 / n_i, where n_i is 1 or a norm of sample i.

    `both` divides by sqrt(||own_i||^2 + ||other_i||^2) and learns through it (its equation 9.3); `one` by ||own_i||, a
    constant of each sample (9.4). All three fail: see strategies/admm.py.
    """
    first, second = own.flatten(1), other.flatten(1)
    squares = (first - second).square().sum(dim=1)
    if norm == "one":
        squares = squares / first.detach().norm(dim=1).clamp_min(_LEAST)
    elif norm == "both":
        squares = squares / (first.square().sum(dim=1) + second.square().sum(dim=1)).clamp_min(_LEAST**2).sqrt()
    return 0.5 * squares.mean()


def encode(difference: Tensor) -> Tensor:
    """Return a batch (n, ...) as bytes (n, 4 + numbers of a sample): a scale per sample, then int8 in its units."""
    rows = difference.reshape(len(difference), -1).to(torch.float32)
    scale = rows.abs().amax(dim=1, keepdim=True) / 127.0
    units = torch.where(scale > 0, rows / scale, 0.0).round().clamp(-127, 127).to(torch.int8)
    return torch.cat([scale.view(torch.int8), units], dim=1)


def decode(message: Tensor, like: Tensor) -> Tensor:
    """Return what was encoded, in the shape of `like`: off by half a unit, max|row| / 254, at most."""
    scale = message[:, :4].contiguous().view(torch.float32)
    return (message[:, 4:].to(torch.float32) * scale).reshape(like.shape)
