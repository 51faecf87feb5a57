"""Gradients and differences of parameters that travel in 16 bits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
Exchange = Callable[[Tensor], None]


def pack(values: Tensor, ranks: int, half: torch.dtype) -> Tensor:
    """Return values / ranks in 16 bits, to be summed over the ranks; overwrites `values`.

    Division comes before the cast, and what exceeds half of the largest number (fp16: 32752) is set to it, so that
    no sum overflows to infinity, which one step later would have made every parameter nan. nan stays nan. In fp16
    values below 6e-8 x ranks vanish, those below 6e-5 x ranks lose digits; bf16 has the range of fp32 and 8 bits of
    precision. Engines also add in 16 bits, rounding once for every rank.
    """
    limit = torch.finfo(half).max / 2  # the other half leaves room for rounding while summing
    return values.clamp_(-limit, limit).mul_(1.0 / ranks).to(half)


def average(values: Tensor, ranks: int, exchange: Exchange, half: torch.dtype | None = None) -> None:
    """Replace a tensor by its mean over the ranks; `exchange` sums in place and is given 16 bits where `half` says."""
    if half is None:
        exchange(values.mul_(1.0 / ranks))
        return
    packed = pack(values, ranks, half)
    exchange(packed)
    values.copy_(packed)
