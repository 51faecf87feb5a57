"""Pictures of any size, read by Pillow and brought to one: in the processes that prepare batches, if there are some."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hpcsynapse.errors import TrainError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# Of ImageNet, with which nearly all published weights were trained.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TRIES = 10


class Form:
    """The form that pictures are brought into: 3 x size x size, `(pixels / 255 - mean) / deviation`.

    The shorter side becomes `resize` (8/7 of `size`, as is usual: 256 for 224), then the middle is cut out; `random`
    cuts out 8 to 100 % of a picture with sides of 3:4 to 4:3 at a random place and mirrors half of them (Szegedy et al.
    2015).
    """

    def __init__(
        self,
        size: int,
        resize: int | None = None,
        random: bool = False,
        mean: Sequence[float] = MEAN,
        deviation: Sequence[float] = DEVIATION,
    ) -> None:
        self.size, self.resize = size, size * 8 // 7 if resize is None else resize
        if size < 1 or self.resize < size:
            raise TrainError(f"pictures: size = {size} and resize = {self.resize} must be positive, resize not smaller")
        if len(mean) != 3 or len(deviation) != 3 or min(deviation) <= 0:
            raise TrainError("pictures: mean and deviation are three numbers, of red, green and blue")
        self.random, self._settings = random, (mean, deviation)
        self._mean, self._deviation = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, deviation))

    @property
    def plain(self) -> Form:
        """The same form without anything random."""
        return Form(self.size, self.resize, False, *self._settings)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a sample."""
        return 3, self.size, self.size

    def read(self, source: Path | bytes, name: str) -> Tensor:
        """Return one picture (3, size, size) float32; raises TrainError naming what cannot be read."""
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                cut = self._cut(picture.convert("RGB"))
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise TrainError(f"{name}: is no picture that can be read: {error}") from None
        pixels = torch.from_numpy(np.asarray(cut, dtype=np.uint8).copy()).permute(2, 0, 1).to(torch.float32)
        return (pixels / 255 - self._mean) / self._deviation

    def _cut(self, picture: Image.Image) -> Image.Image:
        width, height = picture.size
        if self.random:
            return _mirrored(picture.resize((self.size, self.size), Image.Resampling.BILINEAR, _window(width, height)))
        scale = self.resize / min(width, height)
        resized = picture.resize(
            (max(self.size, round(width * scale)), max(self.size, round(height * scale))), Image.Resampling.BILINEAR
        )
        left, top = (resized.width - self.size) // 2, (resized.height - self.size) // 2
        return resized.crop((left, top, left + self.size, top + self.size))


def _window(width: int, height: int) -> tuple[float, float, float, float]:
    """Return a random part of a picture; the random numbers are those of the step (`randomness`)."""
    for _ in range(_TRIES):
        area = float(torch.empty(()).uniform_(0.08, 1.0)) * width * height
        ratio = math.exp(float(torch.empty(()).uniform_(math.log(3 / 4), math.log(4 / 3))))
        wide, high = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if wide <= width and high <= height:
            left, top = (float(torch.rand(())) * room for room in (width - wide, height - high))
            return left, top, left + wide, top + high
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _mirrored(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if float(torch.rand(())) < 0.5 else picture


def is_picture(name: str) -> bool:
    """Tell by its name whether a file is a picture."""
    return name.lower().endswith(ENDINGS)


def stacked(pictures: list[Tensor], labels: Any) -> tuple[Tensor, Tensor]:
    """Return a batch."""
    return torch.stack(pictures), torch.as_tensor(np.asarray(labels, dtype=np.int64))
