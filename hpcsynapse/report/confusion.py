"""Which classes a model takes for which: the newest validation's counts by class, a row for every class.

As MinoTauro's thesis prints it, a row of the matrix is a class that was predicted and a column a true one; the error
beside it is that of the class which names the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpcsynapse.errors import RecordError
from hpcsynapse.runs.class_counts import ClassCounts
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.table import FRACTION, KEY, NUMBER, Column, Columns, column, columns

FEW = 20  # classes up to which the matrix is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """One class of a validation; of few classes its row of the confusion matrix stands beside it, `true CLASS`."""

    run: str = column("name of the run, or of who published the counts", priority=KEY)
    class_name: str = column("name of the class, or its label", head="class", priority=KEY, always=True)
    samples: int = column("samples of the validation that are of this class")
    predicted: int = column("samples that were taken for this class", priority=3)
    correct: int = column("samples of this class that were taken for it", priority=4)
    error: float | None = column("1 - correct / samples, a fraction", unit=FRACTION, priority=8)
    precision: float = column("correct / predicted, a fraction", unit=FRACTION, priority=6)
    recall: float = column("correct / samples, a fraction", unit=FRACTION, priority=6)
    f1: float = column("harmonic mean of precision and recall", head="F1", unit=FRACTION, priority=6)


COLUMNS = columns(ClassRow)


def counts_of(run: RunDirectory) -> ClassCounts:
    """Return a run's counts by class; raises RecordError when its validations counted none."""
    counts = run.read_class_counts()
    if counts is None:
        raise RecordError(
            f"{run.name}: no counts by class in {run.class_counts.name}; the trainer keeps them when a "
            "validation of labels ends (train.validate_every)"
        )
    return counts


def rows_of(name: str, counts: ClassCounts, with_matrix: bool) -> list[dict[str, Any]]:
    """Return a row for every class; with its row of the matrix in columns `true CLASS`, where that is asked for."""
    rows = []
    for number, true in enumerate(counts.true):
        row = ClassRow(
            run=name,
            class_name=counts.name(number),
            samples=true,
            predicted=counts.predicted[number],
            correct=counts.correct[number],
            error=counts.error(number),
            precision=counts.precision(number),
            recall=counts.recall(number),
            f1=counts.f1(number),
        )
        cells = enumerate(counts.matrix[number]) if with_matrix and counts.matrix is not None else ()
        rows.append(asdict(row) | {f"true {counts.name(other)}": count for other, count in cells})
    return rows


def confusion(named: Iterable[tuple[str, ClassCounts]]) -> list[dict[str, Any]]:
    """Return the rows of several runs; each with its matrix where all have the same few classes, else without."""
    found = list(named)
    classes = {tuple(counts.name(number) for number in range(len(counts.true))) for _, counts in found}
    few = len(classes) == 1 and len(next(iter(classes))) <= FEW and all(one.matrix is not None for _, one in found)
    return [row for name, counts in found for row in rows_of(name, counts, few)]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Return the columns of such rows: the matrix, if there is one, before what is made of it."""
    matrix = [name for name in (rows[0] if rows else ()) if name not in COLUMNS]
    cells = {
        name: Column(
            name=name,
            meaning="samples of that class that were taken for the row's",
            kind=int,
            head=name.removeprefix("true "),
            unit=NUMBER,
            priority=7,
            always=True,
        )
        for name in matrix
    }
    first = {name: COLUMNS[name] for name in ("run", "class_name")}
    return {**first, **cells, **{name: one for name, one in COLUMNS.items() if name not in first}}
