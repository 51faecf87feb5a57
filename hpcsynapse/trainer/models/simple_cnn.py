"""The simple CNN of the brain imaging source, as used there on MNIST."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hpcsynapse.trainer.models.image_shape import check_images


class SimpleCNN(nn.Module):
    """conv3x3-32, conv3x3-64, max pool 2, dropout .25, dense 128, dropout .5, dense 10: 1,199,882 parameters.

    Input (N, C, H, W), by default 1x28x28; output (N, classes) logits. `dropout` replaces both rates.
    """

    def __init__(self, shape: Sequence[int] = (1, 28, 28), classes: int = 10, dropout: float | None = None) -> None:
        super().__init__()
        channels, height, width = check_images("simple-cnn", shape, classes, least=6)
        features = 64 * ((height - 4) // 2) * ((width - 4) // 2)
        early, late = (0.25, 0.5) if dropout is None else (dropout, dropout)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Dropout(early),
            nn.Flatten(),
            nn.Linear(features, 128),
            nn.ReLU(inplace=True),
            nn.Dropout(late),
            nn.Linear(128, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, C, H, W)."""
        logits: Tensor = self.layers(images)
        return logits
