"""The CIFAR recipe of augmentation: pad by 4, crop at random, mirror half of the images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hpcsynapse.errors import TrainError

PADDING = 4


def crop_and_flip(images: Tensor, seed: tuple[int, ...]) -> Tensor:
    """Return images (N, C, H, W), each shifted by up to 4 pixels and mirrored at random, as the seed says.

    Raises TrainError when the inputs are something else.
    """
    if not isinstance(images, Tensor) or images.ndim != 4:
        form = f"a tensor {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise TrainError(f"train.augment is for images (N, C, H, W), but inputs are {form}")
    # NumPy has no bfloat16; pixels are only moved, so that any type of two bytes stands for it.
    pixels = images.view(torch.int16) if images.dtype == torch.bfloat16 else images
    count, _, height, width = pixels.shape
    random = np.random.default_rng(seed)
    tops, lefts = (random.integers(0, 2 * PADDING + 1, count) for _ in range(2))
    mirrored = random.integers(0, 2, count).astype(bool)
    padded = functional.pad(pixels, (PADDING,) * 4).numpy()
    moved = np.empty(pixels.shape, padded.dtype)
    # One copy a picture: six times as fast as a gather of single pixels, on a CPU.
    for picture, top, left, flip, target in zip(padded, tops, lefts, mirrored, moved, strict=True):
        window = picture[:, top : top + height, left : left + width]
        target[:] = window[:, :, ::-1] if flip else window
    return torch.from_numpy(moved).view(images.dtype)
