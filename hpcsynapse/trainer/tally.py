"""What a validation adds up over all samples of all ranks, each counted once, and the metrics made from the sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.runs.class_counts import MATRIX_CLASSES, TOP, ClassCounts
from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.objective import Objective


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of a validation: metrics by name, and counts by class where outputs choose among classes."""

    metrics: dict[str, float]
    counts: ClassCounts | None = None


class Tally:
    """Sums over the batches of a validation, and over ranks.

    Means of batches (the loss, a model's own metrics) are weighted by their samples; labels and numbers are counted one
    by one, so that their metrics are those of the whole data set however it is cut.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._sums: dict[str, float] = {}
        self._samples = 0
        self._counted: _Classes | _Errors | None = None

    def add(self, output: Any, target: Any, samples: int) -> None:
        """Add a batch; with 0 samples only the names and sizes of the sums are learnt from it."""
        objective = self._objective
        means = {"loss": float(objective.loss(output, target)), **objective.metrics(output, target)}
        if self._counted is None:
            self._counted = _counted(objective.counted(output, target, means), output)
        if samples and self._counted is not None:
            self._counted.add(output, target)
        for name, value in means.items():
            self._sums[name] = self._sums.get(name, 0.0) + (samples * value if samples else 0.0)
        self._samples += samples

    def total(self, engine: Engine | None = None) -> Validation:
        """Return the metrics over all ranks of an engine; raises TrainError when these report different ones."""
        names = sorted(self._sums)
        own = [float(self._samples), *(self._sums[name] for name in names)]
        vector = torch.tensor(own, dtype=torch.float64)
        if self._counted is not None:
            vector = torch.cat([vector, self._counted.sums()])
        if engine is not None:
            _check_alike(engine, len(vector), names)
            engine.all_reduce(vector)
        count, *totals = vector[: len(own)].tolist()
        means = {name: value / count for name, value in zip(names, totals, strict=True)}
        if self._counted is None:
            return Validation(means)
        more, counts = self._counted.result(vector[len(own) :], engine)
        return Validation({**more, **means}, counts)


def _check_alike(engine: Engine, size: int, names: list[str]) -> None:
    most, least = engine.reduce([size, -size], "max")
    if most != -least:
        raise TrainError(f"ranks report different numbers of metrics; this one has {', '.join(names)}")


class _Classes:
    """Counts of classes; of a matrix, or for many classes of its margins and its diagonal."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self._classes = classes
        size = classes**2 if classes <= MATRIX_CLASSES else 3 * classes
        self._counts = torch.zeros(size, dtype=torch.int64, device=device)
        self._within_top = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, output: Tensor, target: Tensor) -> None:
        """Count the labels of a batch; those that name no class (such as -100, not to be learnt) are left out."""
        classes = self._classes
        labels = target.reshape(-1)
        scores = output.movedim(1, -1).reshape(-1, classes)
        known = (labels >= 0) & (labels < classes)
        labels, scores = labels[known].long(), scores[known]
        chosen = scores.argmax(dim=1)
        if classes <= MATRIX_CLASSES:
            self._counts += torch.bincount(chosen * classes + labels, minlength=classes**2)
        else:
            parts = (labels, chosen, labels[labels == chosen])
            self._counts += torch.cat([torch.bincount(part, minlength=classes) for part in parts])
        if classes > TOP:
            self._within_top += (scores.topk(TOP, dim=1).indices == labels[:, None]).sum()

    def sums(self) -> Tensor:
        """Return all counts, as numbers that an engine adds up exactly."""
        return torch.cat([self._within_top[None], self._counts]).to("cpu", torch.float64)

    def result(self, sums: Tensor, engine: Engine | None) -> tuple[dict[str, float], ClassCounts]:
        """Return metrics and counts from the sums over all ranks."""
        within_top, *counts = (int(value) for value in sums.tolist())
        top = within_top if self._classes > TOP else None
        rows = [counts[first : first + self._classes] for first in range(0, len(counts), self._classes)]
        if self._classes <= MATRIX_CLASSES:
            found = ClassCounts.of_matrix(rows, top)
        else:
            true, predicted, correct = rows
            found = ClassCounts(true, predicted, correct, within_top=top)
        return found.metrics(), found


class _Errors:
    """Sums of errors of outputs that are numbers, and the range of what they should have been."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)  # numbers, errors, squared errors
        self._range = torch.full((2,), -math.inf, dtype=torch.float64, device=device)  # largest, -smallest

    def add(self, output: Tensor, target: Tensor) -> None:
        """Add the errors of a batch."""
        wanted = target.double()
        errors = (output.double() - wanted).abs()
        self._sums += torch.stack(
            [
                torch.tensor(float(errors.numel()), device=errors.device, dtype=torch.float64),
                errors.sum(),
                errors.square().sum(),
            ]
        )
        self._range = torch.maximum(self._range, torch.stack([wanted.max(), (-wanted).max()]))

    def sums(self) -> Tensor:
        """Return the sums."""
        return self._sums.cpu()

    def result(self, sums: Tensor, engine: Engine | None) -> tuple[dict[str, float], None]:
        """Return mean absolute error and peak signal-to-noise ratio (dB) from the sums over all ranks.

        The peak is the range of the targets. Without any error, or of targets that are all equal, there is no ratio.
        """
        count, errors, squares = sums.tolist()
        largest = self._range.tolist() if engine is None else engine.reduce(self._range.tolist(), "max")
        found = {"mae": errors / count}
        if 0 < squares < math.inf and sum(largest) > 0:
            found["psnr"] = 10 * math.log10(sum(largest) ** 2 * count / squares)
        return found, None


def _counted(kind: str, output: Any) -> _Classes | _Errors | None:
    if kind == "classes":
        return _Classes(output.shape[1], output.device)
    return _Errors(output.device) if kind == "numbers" else None
