"""AlexNet in its one-tower form: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks".

Names of parameters and order of layers are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcsynapse.trainer.models.image_shape import check_images, is_small
from hpcsynapse.trainer.models.initialisation import he_initialise


class AlexNet(nn.Module):
    """Five convolutions, three 3x3 max pools of stride 2, dense 4096, 4096, classes: 61,100,840 parameters.

    Input (N, C, H, W), by default 3x224x224; output (N, classes) logits. `small` (by itself where a side is below 64)
    begins with a 3x3 convolution of stride 1 instead of 11x11 of stride 4 and pools to 3x3 instead of 6x6 before the
    dense layers: 28,711,754 parameters for CIFAR-10. `dropout` is the rate before both hidden dense layers.
    """

    def __init__(
        self, shape: Sequence[int] = (3, 224, 224), classes: int = 1000, small: bool | None = None, dropout: float = 0.5
    ) -> None:
        super().__init__()
        channels, *_ = check_images("alexnet", shape, classes, least=15)
        small = is_small("alexnet", shape, small)
        if not small:
            check_images("alexnet with small = false", shape, classes, least=63)
        first = nn.Conv2d(channels, 64, 3, padding=1) if small else nn.Conv2d(channels, 64, 11, stride=4, padding=2)
        side = 3 if small else 6
        self.features = nn.Sequential(
            first,
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * side * side, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, classes),
        )
        he_initialise(self, dense=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, C, H, W)."""
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
        return logits
