"""What is minimised and what is reported: the model's own `loss` and `metrics` where it brings them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Dataset, Indices
from hpcsynapse.trainer.data.batches import to_device
from hpcsynapse.trainer.data.sharding import chunk
from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.usercode import where


class Objective:
    """Loss and metrics of a model.

    A model without its own loss is given cross entropy and accuracy where targets are whole numbers (labels), else the
    mean squared error; one with a loss, but without metrics, is told by its loss alone.
    """

    def __init__(self, model: nn.Module) -> None:
        self._loss = getattr(model, "loss", None)
        self._metrics = getattr(model, "metrics", None)

    def loss(self, output: Any, target: Any) -> Tensor:
        """Return the mean loss of a batch, a tensor of one number; raises TrainError when a model's own is none."""
        if self._loss is not None:
            value = self._loss(output, target)
            if not isinstance(value, Tensor) or value.numel() != 1:
                form = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise TrainError(f"loss(output, target){where(self._loss)} returned {form}, not a tensor of one number")
            return value
        if not isinstance(target, Tensor):
            raise TrainError(f"targets are a {type(target).__name__}: only a model with a loss of its own takes them")
        if target.is_floating_point():
            return functional.mse_loss(output, target)
        return functional.cross_entropy(output, target)

    def metrics(self, output: Any, target: Any) -> dict[str, float]:
        """Return the means over a batch of what is reported beside the loss; raises TrainError as `loss` does."""
        if self._metrics is not None:
            return self._own_metrics(output, target)
        if self._loss is not None or target.is_floating_point():
            return {}
        return {"accuracy": float((output.argmax(dim=1) == target).double().mean())}

    def _own_metrics(self, output: Any, target: Any) -> dict[str, float]:
        found = self._metrics(output, target) if self._metrics is not None else {}
        try:
            return {str(name): float(value) for name, value in dict(found).items()}
        except (TypeError, ValueError, RuntimeError) as error:
            source = f"metrics(output, target){where(self._metrics)}"
            raise TrainError(f"{source} must return a dict of numbers, not {found!r:.100}: {error}") from None


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
        inputs, targets = (to_device(part, device) for part in data.batch(indices))
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
