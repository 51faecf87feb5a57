"""Residual networks for 32x32 images, after He et al. 2015, section 4.2: three groups of n blocks.

Shortcuts have no parameters (option A there): where the size changes they are subsampled and filled with zeros; or they
are 1x1 convolutions there (option B), as the MinoTauro source had them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.models.image_shape import check_images


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    """Convolutions of the given (kernel size, filters), the stride on the first 3x3 one, and the shortcut around."""

    def __init__(self, inputs: int, layers: Sequence[tuple[int, int]], stride: int, projection: bool) -> None:
        super().__init__()
        self.stride, self.fill = stride, layers[-1][1] - inputs
        changes = projection and bool(self.fill or stride > 1)
        self.projection = _convolution(inputs, layers[-1][1], 1, stride) if changes else None
        strided = [size for size, _ in layers].index(3)
        modules: list[nn.Module] = []
        for index, (size, filters) in enumerate(layers):
            if index:
                modules.append(nn.ReLU(inplace=True))
            modules.append(_convolution(inputs, filters, size, stride if index == strided else 1))
            inputs = filters
        self.branch = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, filters, H / stride, W / stride) of (N, inputs, H, W)."""
        if self.projection is not None:
            return functional.relu(self.branch(x) + self.projection(x))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.fill:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.fill))
        return functional.relu(self.branch(x) + shortcut)


class ResNetCifar(nn.Module):
    """conv3x3-16, three groups of n blocks on maps of full, half and quarter size, average pool, dense layer."""

    def __init__(
        self, groups: Sequence[Sequence[tuple[int, int]]], n: int, channels: int, classes: int, projection: bool = False
    ) -> None:
        super().__init__()
        self.stem = _convolution(channels, 16, 3)
        blocks: list[nn.Module] = []
        width = 16
        for number, layers in enumerate(groups):
            for index in range(n):
                blocks.append(Block(width, layers, 2 if number and not index else 1, projection))
                width = layers[-1][1]
        self.blocks = nn.Sequential(*blocks)
        self.classify = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He initialisation
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, C, H, W)."""
        maps = self.blocks(functional.relu(self.stem(images)))
        logits: Tensor = self.classify(maps.mean(dim=(2, 3)))
        return logits


def resnet56(shape: Sequence[int] = (3, 32, 32), classes: int = 10, n: int = 9) -> ResNetCifar:
    """Return the network of 6n+2 layers with basic blocks of 16, 32 and 64 filters: 853,018 parameters."""
    channels, *_ = check_images("resnet56", shape, classes, least=4)
    return ResNetCifar([[(3, width), (3, width)] for width in (16, 32, 64)], n, channels, classes)


def resnet83(shape: Sequence[int] = (3, 32, 32), classes: int = 10, n: int = 9, shortcut: str = "zeros") -> ResNetCifar:
    """Return the network of 9n+2 layers with bottlenecks (16,16,64), (32,32,128), (64,64,256) (MinoTauro source).

    `shortcut` is zeros (826,650 parameters), or projection, as the source had it: 869,530. Raises TrainError.
    """
    channels, *_ = check_images("resnet83", shape, classes, least=4)
    if shortcut not in ("zeros", "projection"):
        raise TrainError(f"resnet83: shortcut = {shortcut!r} is not one of zeros, projection")
    groups = [[(1, width), (3, width), (1, 4 * width)] for width in (16, 32, 64)]
    return ResNetCifar(groups, n, channels, classes, shortcut == "projection")
