"""Random numbers that depend on (seed, rank, step) alone: a resumed run draws what an uninterrupted one draws.

Re-seeding before every step (16 us on a CPU of 2020) replaces the storing of every rank's generators in
checkpoints, and lets a run be resumed by another number of ranks.
"""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch, NumPy and Python alike on every rank, so that models begin equal."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # the generator that user code draws from
    random.seed(seed)


# Steps are fewer than 2^31 (train.steps), so that the numbers drawn by a data set are none of those of the model.
_DATA = 1 << 31


class StepSeeds:
    """Seeds every generator of this rank for one step; what is drawn for its `data` is a stream of its own."""

    def __init__(self, seed: int, rank: int, device: torch.device, *, data: bool = False) -> None:
        self._base = ((seed * 1_000_003 + rank) << 32) + (_DATA if data else 0)
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[device.index])

    def apply(self, step: int) -> None:
        """Seed for a step, counted from 0 over the whole run."""
        value = _mix(self._base + step)
        for generator in self._generators:
            generator.manual_seed(value)
        np.random.seed(value & 0xFFFFFFFF)  # the generator that user code draws from
        random.seed(value)


def _mix(value: int) -> int:
    """Return 64 well mixed bits (splitmix64): neighbouring steps must not share bits in a weak seeding."""
    mask = (1 << 64) - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)
