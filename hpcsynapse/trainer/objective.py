"""What is minimised and what is reported: the model's own `loss` and `metrics` where it brings them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Dataset, Indices
from hpcsynapse.trainer.data.sharding import chunk
from hpcsynapse.trainer.engines.base import Engine


class Objective:
    """Loss and metrics of a model.

    A model without its own is given cross entropy and accuracy where targets are whole numbers (labels), else the
    mean squared error.
    """

    def __init__(self, model: nn.Module) -> None:
        self._loss = getattr(model, "loss", None)
        self._metrics = getattr(model, "metrics", None)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch as a scalar tensor."""
        if self._loss is not None:
            value: Tensor = self._loss(output, target)
            return value
        if target.is_floating_point():
            return functional.mse_loss(output, target)
        return functional.cross_entropy(output, target)

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """Return the means over a batch of what is reported beside the loss."""
        if self._metrics is not None:
            found: Mapping[str, float | Tensor] = self._metrics(output, target)
            return {str(name): float(value) for name, value in found.items()}
        if target.is_floating_point():
            return {}
        return {"accuracy": float((output.argmax(dim=1) == target).double().mean())}


@torch.no_grad()
def evaluate(
    model: nn.Module,
    objective: Objective,
    data: Dataset,
    batch: int,
    engine: Engine,
    device: torch.device,
    progress: Callable[[], None],
) -> dict[str, float]:
    """Return loss and metrics over a data set shared out over the ranks, every sample counted exactly once.

    The model is in eval mode meanwhile; `progress` is called after every batch. Raises TrainError when
    ranks report different metrics.
    """
    was_training = model.training
    model.eval()
    own = chunk(len(data), engine.rank, engine.size)
    sums: dict[str, float] = {}
    # A rank without samples looks at one with weight 0: it must know the names of the metrics.
    for first in range(own.start, own.stop, batch) if own else (0,):
        indices: Indices = torch.arange(first, min(first + batch, own.stop) if own else 1).numpy()
        inputs, targets = (part.to(device, non_blocking=True) for part in data.batch(indices))
        output = model(inputs)
        weight = len(indices) if own else 0
        found = {"loss": float(objective.loss(output, targets)), **objective.metrics(output, targets)}
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + weight * value if weight else 0.0
        progress()
    model.train(was_training)
    names = sorted(sums)
    most, least = engine.reduce([len(names), -len(names)], "max")
    if most != -least:
        raise TrainError(f"ranks report different numbers of metrics; this one has {', '.join(names)}")
    count, *totals = engine.reduce([len(own), *(sums[name] for name in names)])
    return {name: total / count for name, total in zip(names, totals, strict=True)}
