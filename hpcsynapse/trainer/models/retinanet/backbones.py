"""What the pyramid stands on: networks that return C3, C4 and C5, at 1/8, 1/16 and 1/32 of the image's sides."""

from __future__ import annotations

from torch import Tensor, nn

from hpcsynapse.trainer.models import resnet


class ResNet50(nn.Module):
    """ResNet-50 without its classifier."""

    channels = (512, 1024, 2048)

    def __init__(self, colours: int) -> None:
        super().__init__()
        whole = resnet.resnet50((colours, 224, 224))
        self.stem = nn.Sequential(whole.conv1, whole.bn1, whole.relu, whole.maxpool)
        self.layers = nn.ModuleList((whole.layer1, whole.layer2, whole.layer3, whole.layer4))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return C3, C4 and C5 (N, channels, H / 8, 16, 32, W / 8, 16, 32) of images (N, colours, H, W)."""
        x = self.layers[0](self.stem(images))
        c3 = self.layers[1](x)
        c4 = self.layers[2](c3)
        return c3, c4, self.layers[3](c4)


class Small(nn.Module):
    """A residual network of five blocks that one CPU core trains in minutes.

    Groups are normalised, not batches: a rank's few images are no sample for statistics.
    """

    channels = (48, 64, 96)

    def __init__(self, colours: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(colours, 16, 5, 2), nn.ReLU(inplace=True), Block(16, 32, 2))
        self.c3, self.c4 = Block(32, 48, 2), Block(48, 64, 2)
        self.c5 = nn.Sequential(Block(64, 96, 2), Block(96, 96, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return C3, C4 and C5 (N, channels, H / 8, 16, 32, W / 8, 16, 32) of images (N, colours, H, W)."""
        c3 = self.c3(self.stem(images))
        c4 = self.c4(c3)
        return c3, c4, self.c5(c4)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = convolution(inputs, filters, 3, stride), convolution(filters, filters, 3, 1)
        same = stride == 1 and inputs == filters
        self.shortcut = nn.Identity() if same else convolution(inputs, filters, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, filters, H / stride, W / stride) of (N, inputs, H, W)."""
        found: Tensor = self.relu(self.second(self.relu(self.first(x))) + self.shortcut(x))
        return found


def convolution(inputs: int, filters: int, kernel: int, stride: int) -> nn.Sequential:
    """Return a convolution that keeps the sides but for the stride, with group normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, filters, kernel, stride, padding=kernel // 2, bias=False), nn.GroupNorm(8, filters)
    )


BACKBONES: dict[str, type[ResNet50] | type[Small]] = {"resnet50": ResNet50, "small": Small}
