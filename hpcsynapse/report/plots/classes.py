"""What a model takes for what: a matrix of few classes, and the error of each of many."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcsynapse.report.confusion import FEW
from hpcsynapse.report.plots.style import COLOURS, GREY, Plot, new_figure, short, text_size, width_for
from hpcsynapse.runs.class_counts import ClassCounts

_WORST = 25  # classes of many that are drawn
_NUMBERS = 12  # classes up to which the cells of a matrix bear their numbers


def confusion(name: str, counts: ClassCounts) -> Plot:
    """Return the confusion matrix of a run (columns: true classes, in percent of them), or errors of many classes."""
    if counts.matrix is not None and len(counts.true) <= FEW:
        return _matrix(name, counts)
    return _errors(name, counts)


def _matrix(name: str, counts: ClassCounts) -> Plot:
    matrix, classes = np.array(counts.matrix, dtype=float), len(counts.true)
    totals = np.maximum(matrix.sum(axis=0), 1)
    share = matrix / totals
    size = max(4.6, 1.9 + 0.45 * classes)
    figure, [axes] = new_figure(size + 1.5, size)
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [short(counts.name(number), 14) for number in range(classes)]
    axes.set_xticks(range(classes), names, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(range(classes), names)
    axes.grid(visible=False)
    for row, column in np.ndindex(share.shape) if classes <= _NUMBERS else ():
        if matrix[row, column]:
            axes.text(
                column,
                row,
                f"{matrix[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=text_size(0.8),
                color="white" if share[row, column] > 0.5 else "#222222",
            )
    axes.set(xlabel="true class", ylabel="predicted class", title=f"Confusion matrix of {short(name)}")
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    bar.set_label("of the true class's samples")
    return Plot("confusion", "Confusion matrix", f"{_accuracy(name, counts)} {_mistakes(counts)}", figure)


def _errors(name: str, counts: ClassCounts) -> Plot:
    known = [(error, number) for number in range(len(counts.true)) if (error := counts.error(number)) is not None]
    worst = sorted(known, key=lambda pair: (-pair[0], pair[1]))[:_WORST]
    names = [short(counts.name(number)) for _, number in worst]
    figure, [axes] = new_figure(width_for(names), 1.3 + 0.24 * len(worst))
    axes.barh(range(len(worst)), [error for error, _ in worst], height=0.75, color=COLOURS[0])
    axes.set_yticks(range(len(worst)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    mean = 1 - counts.metrics()["recall"] if counts.total else 0.0
    axes.axvline(mean, color=GREY, ls="--", lw=1.2)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(_percent)
    which = f"the worst {len(worst)} of {len(known)} classes" if len(worst) < len(known) else "all classes"
    axes.set(xlabel="error of the class (dashed: mean over classes)", title=f"Error by class of {short(name)}, {which}")
    words = ", ".join(f"{counts.name(number)} {error:.1%}" for error, number in worst)
    return Plot("confusion", "Error by class", f"{_accuracy(name, counts)} Error of {which}: {words}.", figure)


def _percent(value: float, _: Any) -> str:
    return f"{100 * value:g}%"


def _accuracy(name: str, counts: ClassCounts) -> str:
    right = sum(counts.correct)
    return f"{name}: {right} of {counts.total} samples are right ({right / max(counts.total, 1):.1%})."


def _mistakes(counts: ClassCounts) -> str:
    cells = [
        (count, row, column)
        for row, line in enumerate(counts.matrix or ())
        for column, count in enumerate(line)
        if row != column and count
    ]
    worst = sorted(cells, key=lambda cell: (-cell[0], cell[1:]))[:3]
    told = ", ".join(f"{count} of {counts.name(column)} for {counts.name(row)}" for count, row, column in worst)
    return f"Taken for another most often: {told}." if told else "None is taken for another."
