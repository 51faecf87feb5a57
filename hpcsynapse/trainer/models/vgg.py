"""VGG networks: Simonyan and Zisserman 2014, table 1, configurations D (16 weight layers) and E (19).

Names of parameters and order of layers are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcsynapse.trainer.models.image_shape import check_images, is_small
from hpcsynapse.trainer.models.initialisation import he_initialise

_FILTERS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five groups of 3x3 convolutions, a 2x2 max pool behind each, dense 4096, 4096, classes.

    Input (N, C, H, W), output (N, classes) logits. The small variant does not pool to 7x7 before the dense layers but
    to 1x1, which is what five pools leave of 32x32. `groups` counts the convolutions of each group.
    """

    def __init__(self, groups: Sequence[int], channels: int, classes: int, small: bool, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for convolutions, filters in zip(groups, _FILTERS, strict=True):
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)]
                channels = filters
            layers.append(nn.MaxPool2d(2))
        side = 1 if small else 7
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, classes),
        )
        he_initialise(self, dense=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, C, H, W)."""
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
        return logits


def vgg16(
    shape: Sequence[int] = (3, 224, 224), classes: int = 1000, small: bool | None = None, dropout: float = 0.5
) -> VGG:
    """Return VGG-16: 138,357,544 parameters; `small` (by itself for sides below 64): 33,638,218 for CIFAR-10."""
    return _vgg("vgg16", (2, 2, 3, 3, 3), shape, classes, small, dropout)


def vgg19(
    shape: Sequence[int] = (3, 224, 224), classes: int = 1000, small: bool | None = None, dropout: float = 0.5
) -> VGG:
    """Return VGG-19: 143,667,240 parameters; `small` (by itself for sides below 64): 38,947,914 for CIFAR-10."""
    return _vgg("vgg19", (2, 2, 4, 4, 4), shape, classes, small, dropout)


def _vgg(
    name: str, groups: Sequence[int], shape: Sequence[int], classes: int, small: bool | None, dropout: float
) -> VGG:
    channels, *_ = check_images(name, shape, classes, least=32)
    return VGG(groups, channels, classes, is_small(name, shape, small), dropout)
