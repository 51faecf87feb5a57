"""What is minimised and what is reported: the model's own `loss` and `metrics` where it brings them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.usercode import where


class Objective:
    """Loss and metrics of a model.

    A model without its own loss is given cross entropy where targets are whole numbers (labels), else the mean squared
    error; one with a loss, but without metrics, is told by its loss alone.
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
        """Return the model's own metrics of a batch, means over it; raises TrainError as `loss` does."""
        if self._metrics is None:
            return {}
        found = self._metrics(output, target)
        try:
            return {str(name): float(value) for name, value in dict(found).items()}
        except (TypeError, ValueError, RuntimeError) as error:
            source = f"metrics(output, target){where(self._metrics)}"
            raise TrainError(f"{source} must return a dict of numbers, not {found!r:.100}: {error}") from None

    def counted(self, output: Any, target: Any, means: Mapping[str, float]) -> str:
        """Tell what can be counted one by one: labels of `classes`, `numbers`, or nothing, an empty text.

        `means` are the metrics of the batch. Outputs of a model with a loss of its own can mean anything: they are
        classes only where its own metrics know an accuracy.
        """
        if not isinstance(output, Tensor) or not isinstance(target, Tensor):
            return ""
        if target.is_floating_point():
            return "numbers" if self._loss is None and output.shape == target.shape and target.numel() else ""
        known = self._loss is None or "accuracy" in means
        of_labels = output.dim() > 1 and (output.shape[0], *output.shape[2:]) == tuple(target.shape)
        return "classes" if known and of_labels and output.shape[1] > 1 and output.is_floating_point() else ""
