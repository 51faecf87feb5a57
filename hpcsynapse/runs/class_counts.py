"""How often a validation took samples of one class for another, and the metrics that follow from these counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

MATRIX_CLASSES = 200  # up to so many classes every pair is counted: 40,000 numbers
TOP = 5


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Counts over all samples of a validation, each counted once.

    Of class i there were `true[i]` samples; `predicted[i]` were taken for it, `correct[i]` of them rightly. Where there
    are few classes, `matrix[i][j]` samples of class j were taken for class i. `within_top` samples had their class
    among the five with the highest outputs; None where there are no more than five. `names` is empty or names all.
    """

    true: Sequence[int]
    predicted: Sequence[int]
    correct: Sequence[int]
    matrix: Sequence[Sequence[int]] | None = None
    within_top: int | None = None
    names: Sequence[str] = ()

    @classmethod
    def of_matrix(
        cls, matrix: Sequence[Sequence[int]], within_top: int | None = None, names: Sequence[str] = ()
    ) -> ClassCounts:
        """Return the counts of a confusion matrix: rows are the classes predicted, columns the true ones."""
        return cls(
            true=[sum(column) for column in zip(*matrix, strict=True)],
            predicted=[sum(row) for row in matrix],
            correct=[row[number] for number, row in enumerate(matrix)],
            matrix=[list(row) for row in matrix],
            within_top=within_top,
            names=names,
        )

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> ClassCounts:
        """Return what `to_dict` was made from; raises ValueError when a table holds something else."""
        try:
            names = tuple(str(name) for name in table.get("names") or ())
            if table.get("matrix") is not None:
                found = cls.of_matrix([_counts(row) for row in table["matrix"]], table.get("within_top"), names)
            else:
                true, predicted, correct = (_counts(table[name]) for name in ("true", "predicted", "correct"))
                found = cls(true, predicted, correct, within_top=table.get("within_top"), names=names)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"no counts by class: {error}") from None
        if len({len(found.true), len(found.predicted), len(found.correct), len(names) or len(found.true)}) != 1:
            raise ValueError("no counts by class: lists of different lengths")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON takes them; those that the matrix says are left out."""
        told: dict[str, Any] = {"names": list(self.names), "within_top": self.within_top}
        if self.matrix is not None:
            return {**told, "matrix": [list(row) for row in self.matrix]}
        return {**told, "true": list(self.true), "predicted": list(self.predicted), "correct": list(self.correct)}

    def named(self, names: Sequence[str]) -> ClassCounts:
        """Return the same counts with names of the classes, where there are as many of them."""
        return replace(self, names=tuple(names)) if len(names) == len(self.true) else self

    @property
    def total(self) -> int:
        """Samples that were counted."""
        return sum(self.true)

    def name(self, number: int) -> str:
        """Return the name of a class, or its number."""
        return self.names[number] if self.names else str(number)

    def error(self, number: int) -> float | None:
        """Return the fraction of a class's samples that were taken for another; None where there were none."""
        return 1 - self.correct[number] / self.true[number] if self.true[number] else None

    def precision(self, number: int) -> float:
        """Return the fraction of right ones among the samples taken for a class; 0 where none was."""
        return self.correct[number] / self.predicted[number] if self.predicted[number] else 0.0

    def recall(self, number: int) -> float:
        """Return the fraction of a class's samples that were taken for it; 0 where there were none."""
        return self.correct[number] / self.true[number] if self.true[number] else 0.0

    def f1(self, number: int) -> float:
        """Return the harmonic mean of precision and recall of a class; 0 where both are."""
        both = self.true[number] + self.predicted[number]
        return 2 * self.correct[number] / both if both else 0.0

    def metrics(self) -> dict[str, float]:
        """Return accuracy, top5_accuracy, and precision, recall and F1 as means over the classes that occur.

        A class occurs when it was true or predicted at least once. Nothing counted gives no metrics.
        """
        occurring = [number for number in range(len(self.true)) if self.true[number] or self.predicted[number]]
        if not self.total:
            return {}
        found = {"accuracy": sum(self.correct) / self.total}
        if self.within_top is not None:
            found["top5_accuracy"] = self.within_top / self.total
        for name, of in (("precision", self.precision), ("recall", self.recall), ("f1", self.f1)):
            found[name] = sum(map(of, occurring)) / len(occurring)
        return found


def _counts(values: Sequence[Any]) -> list[int]:
    found = [int(value) for value in values]
    if any(value < 0 for value in found):
        raise ValueError("a count is below 0")
    return found
