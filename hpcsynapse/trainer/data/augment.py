"""The CIFAR recipe of augmentation: pad by 4, crop at random, mirror half of the images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

PADDING = 4


def crop_and_flip(images: Tensor, seed: tuple[int, ...]) -> Tensor:
    """Return images (N, C, H, W), each shifted by up to 4 pixels and mirrored at random, as the seed says."""
    count, channels, height, width = images.shape
    random = np.random.default_rng(seed)
    top, left = (torch.from_numpy(random.integers(0, 2 * PADDING + 1, count)) for _ in range(2))
    mirrored = torch.from_numpy(random.integers(0, 2, count).astype(bool))
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.where(mirrored[:, None], torch.arange(width - 1, -1, -1), torch.arange(width))
    padded = functional.pad(images, (PADDING,) * 4)
    sample = torch.arange(count)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
