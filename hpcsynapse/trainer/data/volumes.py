"""From samples as they were stored to those that a network takes: scaled, channels first, padded with zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hpcsynapse.errors import TrainError

SCALES = ("none", "sample")
LABELS = "iub"  # kinds of values that are whole numbers
Shape = tuple[int, ...]


def _reaches(side: Any, own: int) -> bool:
    return isinstance(side, int) and side >= own


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What is done to batches of samples stored as `stored`, in the order of the fields; targets are not scaled.

    `scale` "sample" brings every sample to zero mean and unit variance by its own figures; `mean` and `deviation` do so
    by those given, of all samples. `channels_last` moves the last axis to the front; `pad` surrounds images by zeros up
    to (height, width), the odd line below and on the right. Targets that are images as large as the inputs, with or
    without channels, are moved and padded likewise. Raises TrainError for options that do not fit.
    """

    stored: Shape
    scale: str = "none"
    mean: float | None = None
    deviation: float | None = None
    channels_last: bool = False
    pad: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise TrainError(f"data 'npy': scale = {self.scale!r} is not one of {', '.join(SCALES)}")
        if self.scale == "sample" and not self.stored:
            raise TrainError("data 'npy': scale = 'sample' is for samples of more than one value")
        if (self.mean is None) != (self.deviation is None) or (self.mean is not None and self.scale != "none"):
            raise TrainError("data 'npy': mean and deviation go together, and without scale = 'sample'")
        for figure in (self.mean, self.deviation):
            if figure is not None and not (isinstance(figure, Real) and math.isfinite(figure)):
                raise TrainError(f"data 'npy': mean = {self.mean!r} and deviation = {self.deviation!r} must be numbers")
        if self.deviation is not None and self.deviation <= 0:
            raise TrainError(f"data 'npy': deviation = {self.deviation} must be positive")
        if (self.channels_last or self.pad) and len(self.stored) != 3:
            raise TrainError(f"data 'npy': channels_last and pad are for images with channels, not {self.stored}")
        pair = isinstance(self.pad, Sequence) and len(self.pad) == 2
        if self.pad and not (pair and all(map(_reaches, self.pad, self._image))):
            raise TrainError(f"data 'npy': pad = {self.pad} must be a height and width of at least {self._image}")

    @property
    def _image(self) -> Shape:
        return self.stored[:2] if self.channels_last else self.stored[-2:]

    @property
    def shape(self) -> Shape:
        """The shape of one sample as the network takes it."""
        if not self.channels_last and not self.pad:
            return self.stored
        return (self.stored[-1] if self.channels_last else self.stored[0], *(self.pad or self._image))

    def inputs(self, values: NDArray[Any]) -> Tensor:
        """Return a batch of inputs (n, *shape) float32 of values (n, *stored)."""
        if self.scale == "none" and self.mean is None:
            return self._arrange(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), self.channels_last)
        scaled = torch.from_numpy(values.astype(np.float64))
        if self.mean is not None and self.deviation is not None:
            scaled.sub_(self.mean).div_(self.deviation)
        else:
            deviation, mean = torch.std_mean(scaled, tuple(range(1, scaled.ndim)), correction=0, keepdim=True)
            deviation[deviation == 0] = 1  # an empty slice at the edge of a volume
            scaled.sub_(mean).div_(deviation)
        return self._arrange(scaled.to(torch.float32), self.channels_last)

    def targets(self, values: NDArray[Any]) -> Tensor:
        """Return a batch of targets: int64 where they are whole numbers (labels), else float32."""
        kind = np.int64 if values.dtype.kind in LABELS else np.float32
        targets = torch.from_numpy(np.ascontiguousarray(values, dtype=kind))
        channels = targets.ndim == len(self.stored) + 1
        first = 1 if self.channels_last or not channels else 2
        if targets.ndim < len(self.stored) or targets.shape[first : first + 2] != self._image:
            return targets
        return self._arrange(targets, self.channels_last and channels)

    def _arrange(self, batch: Tensor, channels_last: bool) -> Tensor:
        if channels_last:
            batch = batch.movedim(-1, 1)
        if self.pad:
            (above, below), (left, right) = (
                ((side - own) // 2, (side - own + 1) // 2) for side, own in zip(self.pad, self._image, strict=True)
            )
            batch = functional.pad(batch, (left, right, above, below))
        return batch.contiguous()
