"""Residual networks of bottlenecks for ImageNet: He et al. 2015, table 1.

As in torchvision, whose names of parameters these are, a block's stride lies on its 3x3 convolution; in the paper it
lies on the first 1x1 (fewer FLOPs, as many parameters). The variant for small images begins with a 3x3 convolution of
stride 1 and no max pool (Chen et al. 2020, "A simple framework for contrastive learning", appendix B.9).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcsynapse.trainer.models.image_shape import check_images, is_small
from hpcsynapse.trainer.models.initialisation import he_initialise

_EXPANSION = 4


class Bottleneck(nn.Module):
    """Convolutions 1x1-w, 3x3-w (with the stride), 1x1-4w, and a shortcut that is projected where the shape changes."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        outputs = _EXPANSION * filters
        self.conv1 = nn.Conv2d(inputs, filters, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 4 filters, H / stride, W / stride) of (N, inputs, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        result: Tensor = self.relu(self.bn3(self.conv3(x)) + shortcut)
        return result


class ResNet(nn.Module):
    """conv7x7-64 / 2, max pool / 2, stages layer1 to layer4 of 256 to 2048 channels, average pool, dense layer.

    Input (N, C, H, W), output (N, classes) logits. The stages' outputs, 1/4, 1/8, 1/16 and 1/32 of the input's sides
    (small: 1, 1/2, 1/4, 1/8), are what is called C2 to C5 in feature pyramids. `blocks` counts a stage's blocks.
    """

    def __init__(self, blocks: Sequence[int], channels: int, classes: int, small: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, blocks[0], stride=1)
        self.layer2 = _stage(256, 128, blocks[1], stride=2)
        self.layer3 = _stage(512, 256, blocks[2], stride=2)
        self.layer4 = _stage(1024, 512, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, classes)
        he_initialise(self, dense=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, C, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def resnet50(shape: Sequence[int] = (3, 224, 224), classes: int = 1000, small: bool | None = None) -> ResNet:
    """Return ResNet-50: 25,557,032 parameters; `small` (by itself for sides below 64): 23,520,842 for CIFAR-10."""
    return _resnet("resnet50", (3, 4, 6, 3), shape, classes, small)


def resnet152(shape: Sequence[int] = (3, 224, 224), classes: int = 1000, small: bool | None = None) -> ResNet:
    """Return ResNet-152: 60,192,808 parameters; `small` (by itself for sides below 64): 58,156,618 for CIFAR-10."""
    return _resnet("resnet152", (3, 8, 36, 3), shape, classes, small)


def _resnet(name: str, blocks: Sequence[int], shape: Sequence[int], classes: int, small: bool | None) -> ResNet:
    channels, *_ = check_images(name, shape, classes, least=8)
    return ResNet(blocks, channels, classes, is_small(name, shape, small))


def _stage(inputs: int, filters: int, blocks: int, stride: int) -> nn.Sequential:
    outputs = _EXPANSION * filters
    later = [Bottleneck(outputs, filters, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(inputs, filters, stride), *later)
