"""The U-Net of the brain imaging source, after Ronneberger et al. 2015: volumes' slices in, an image of each out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcsynapse.trainer.models.image_shape import check_images
from hpcsynapse.trainer.models.initialisation import he_initialise

_FILTERS = (32, 64, 128, 256)
_BRIDGE = 512


class UNet(nn.Module):
    """Encoder of four blocks, bridge, decoder of four blocks, each with two 3x3 convolutions: 8,660,513 parameters.

    A block is convolution, ReLU, convolution, ReLU, batch norm, and dropout except in the decoder; what an encoder
    block puts out is pooled, and joined to what the decoder brings up to its size. Input (N, C, H, W), by default
    97x192x192, with sides that 16 divides; output (N, classes, H, W): one channel to regress on, or as many as
    targets (N, H, W) have labels. `dropout` replaces both rates, .25 and .5.
    """

    def __init__(self, shape: Sequence[int] = (97, 192, 192), classes: int = 1, dropout: float | None = None) -> None:
        super().__init__()
        channels, *_ = check_images("unet", shape, classes, least=16, multiple=16)
        early, late = (0.25, 0.5) if dropout is None else (dropout, dropout)
        widths = (channels, *_FILTERS)
        self.encoder = nn.ModuleList(
            nn.Sequential(*_block(inputs, filters), nn.Dropout(early))
            for inputs, filters in zip(widths, _FILTERS, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.bridge = nn.Sequential(*_block(_FILTERS[-1], _BRIDGE), nn.Dropout(late))
        self.up = nn.ModuleList(_up(2 * filters, filters) for filters in reversed(_FILTERS))
        self.decoder = nn.ModuleList(nn.Sequential(*_block(2 * filters, filters)) for filters in reversed(_FILTERS))
        self.head = nn.Conv2d(_FILTERS[0], classes, 1)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return an image (N, classes, H, W) of each of the images (N, C, H, W)."""
        x, skipped = images, []
        for block in self.encoder:
            x = block(x)
            skipped.append(x)
            x = self.pool(x)
        x = self.bridge(x)
        for up, block, skip in zip(self.up, self.decoder, reversed(skipped), strict=True):
            x = block(torch.cat((skip, up(x)), dim=1))
        result: Tensor = self.head(x)
        return result


def _block(inputs: int, filters: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, filters, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(filters, filters, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(filters),
    ]


def _up(inputs: int, filters: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU(inplace=True))
