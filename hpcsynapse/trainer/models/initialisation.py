"""He initialisation, as the sources use it for networks of ReLUs."""

from __future__ import annotations

from torch import nn


def he_initialise(model: nn.Module, dense: float | None = None) -> None:
    """Draw the weights of convolutions and dense layers from N(0, 2 / inputs), set biases to zero (He et al. 2015).

    `dense` is another standard deviation for dense layers: of AlexNet and VGG, whose max pools enlarge what wide dense
    layers are given, the first steps diverge at usual rates unless it is small (0.01, as in their publications).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if dense is not None and isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=dense)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
