"""A small network to be cut in two: 4 convolutions, 3 poolings, 2 dense layers, as the ADMM source used on CIFAR-10.

The source (Dziwulski, Oxford 2017) publishes no widths; those here are the ones that the methods were compared with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from hpcsynapse.trainer.models.image_shape import check_images
from hpcsynapse.trainer.models.initialisation import he_initialise


class DualNet(nn.Sequential):
    """Children by name (conv1, relu1, pool1, conv2, ...); activations are never overwritten, so any cut is valid."""

    cut = "pool2"  # layer behind which the source cuts


def dualnet(shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> DualNet:
    """Return conv8 pool conv16 pool | conv16 pool conv16 fc64 fc10: 15,818 parameters, He initialisation.

    Convolutions are 3x3 and keep the size, poolings halve it. Input (N, C, H, W), output (N, classes) logits.
    """
    channels, height, width = check_images("dualnet", shape, classes, least=8)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, filters in enumerate((8, 16, 16, 16), start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, filters, 3, padding=1)
        layers[f"relu{number}"] = nn.ReLU()
        if number < 4:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        channels = filters
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels * (height // 8) * (width // 8), 64)
    layers["relu5"] = nn.ReLU()
    layers["fc2"] = nn.Linear(64, classes)
    model = DualNet(layers)
    he_initialise(model)
    return model
