"""Activation checkpointing: what a block computes inside is dropped after forward, and computed again in backward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from hpcsynapse.errors import TrainError


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a model: elements of its lists and sequences that are made of layers themselves."""
    for child in module.children():
        listed = isinstance(module, (nn.Sequential, nn.ModuleList))
        if listed and any(True for _ in child.children()) and not isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield child
        else:
            yield from blocks(child)


def recompute_blocks(model: nn.Module) -> None:
    """Let every block of a model keep its inputs alone; raises TrainError for a model without blocks.

    The numbers are the same: random ones are drawn alike both times, and batch norm counts a batch once.
    """
    found = list(blocks(model))
    if not found:
        raise TrainError(
            f"train.recompute: {type(model).__name__} has no blocks, which are modules made of layers in an "
            "nn.Sequential or nn.ModuleList"
        )
    for block in found:
        block.forward = partial(_forward, block, block.forward)


def _forward(block: nn.Module, forward: Any, *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **named)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Keep running statistics as they are, for the second look at a batch."""
    norms = [part for part in block.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
