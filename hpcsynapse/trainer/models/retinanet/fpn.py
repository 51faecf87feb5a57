"""The feature pyramid (Lin et al. 2017, "Feature pyramid networks") and the two heads that read it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

PRIOR = 0.01  # the score of every anchor before training, lest the many of background drown the few others


class FeaturePyramid(nn.Module):
    """Levels P3 to P7 of equal channels, at strides 8 to 128, from C3 to C5."""

    strides = (8, 16, 32, 64, 128)

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in inputs)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in inputs)
        self.p6 = nn.Conv2d(inputs[-1], channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the five levels, finest first."""
        levels = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for upper in (1, 0):
            levels[upper] = levels[upper] + functional.interpolate(levels[upper + 1], size=levels[upper].shape[2:])
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        p6 = self.p6(features[-1])
        return [*levels, p6, self.p7(functional.relu(p6))]


class Head(nn.Module):
    """3x3 convolutions shared by all levels: `outputs` numbers for each of `count` anchors at every place."""

    def __init__(self, channels: int, depth: int, count: int, outputs: int, bias: float = 0.0) -> None:
        super().__init__()
        self.outputs = outputs
        layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth)]
        last = nn.Conv2d(channels, count * outputs, 3, padding=1)
        self.layers = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU(inplace=True))), last)
        for layer in (*layers, last):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:  # as it is: torch declares that a convolution may have none
                nn.init.constant_(layer.bias, bias if layer is last else 0.0)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return (N, anchors of all levels, outputs)."""
        found = (self.layers(level).permute(0, 2, 3, 1) for level in levels)
        return torch.cat([values.reshape(len(values), -1, self.outputs) for values in found], dim=1)


def prior_bias() -> float:
    """Return the bias whose sigmoid is the score of every anchor before training."""
    return -math.log((1 - PRIOR) / PRIOR)
