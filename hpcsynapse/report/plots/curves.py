"""Training curves: loss, error and further metrics over time and over samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import LogLocator, NullLocator

from hpcsynapse.report.curves import Curve
from hpcsynapse.report.plots.axes import label_ends
from hpcsynapse.report.plots.style import Plot, beside, colour, marker, new_figure, text_size, time_unit

_DECADES = 8.0  # a loss that falls by more than this factor is drawn on a logarithmic axis
_PANELS = 8  # further metrics that are drawn, in the order in which runs tell them
Runs = Sequence[tuple[str, Sequence[Curve]]]  # name of a point, and a curve for every repeat
LOSS, ERROR = "Loss", "Error on the test data"


def training_curves(loss: Runs, validated: Runs, error: Runs) -> Plot | None:
    """Return the loss of training (lines) and of validations (dots), and test error, over time and over samples."""
    kinds = [
        (title, runs, marked)
        for title, runs, marked in ((LOSS, loss, validated), (ERROR, error, ()))
        if _drawn(runs) or _drawn(marked)
    ]
    if not kinds:
        return None
    figure, panels = new_figure(7.0, 0.4 + 2.9 * len(kinds), len(kinds), 2)
    labelled = []
    for row, (title, runs, marked) in enumerate(kinds):
        left, right = panels[2 * row : 2 * row + 2]
        longest = max(float(curve.time.max(initial=0.0)) for _, curves in (*runs, *marked) for curve in curves)
        factor, unit = time_unit(longest)
        for axes, over, scale in ((left, "time", factor), (right, "samples", 1.0)):
            ends = _draw(axes, runs, over, scale, signs=title == ERROR)
            points = _draw(axes, marked, over, scale, signs=True, thin=True)
            if axes is right or not beside():
                labelled.append((axes, ends or points))
        left.set(xlabel=f"{unit} of training", title=_title(title, runs, marked))
        right.set(xlabel="samples of all ranks")
        right.xaxis.set_major_formatter(lambda value, _: _short(value))
        _scale((left, right), (*runs, *marked), is_error=title == ERROR)
        right.set_ylim(left.get_ylim())
        right.tick_params(labelleft=not beside())
    for axes, ends in labelled:  # when the layout of all panels is settled
        label_ends(axes, ends)
    words = [(title, runs) for title, runs, _ in kinds]
    words[1:1] = [("Loss of validations", validated)] if kinds[0][0] == LOSS and _drawn(validated) else []
    return Plot("training", "Training curves", f"Over time (left) and over samples (right). {_words(words)}.", figure)


def metric_curves(metrics: Sequence[tuple[str, Runs, Runs]]) -> Plot | None:
    """Return metrics of validations (dots) and on training samples (lines) over samples, a panel for each.

    None where there are none.
    """
    shown = [(name, runs, seen) for name, runs, seen in metrics if _drawn(runs)][:_PANELS]
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure, panels = new_figure(7.0, 0.4 + 2.7 * rows, rows, columns)
    labelled = []
    for axes, (name, runs, seen) in zip(panels, shown, strict=False):
        _draw(axes, seen, "samples")
        labelled.append((axes, _draw(axes, runs, "samples", signs=True, thin=any(_drawn(one) for *_, one in shown))))
        axes.set(title=name.replace("_", " "), xlabel="samples of all ranks")
        axes.set_ylabel(name.replace("_", " ") if len(shown) == 1 else "")  # where a single panel has no title
        axes.margins(y=0.08)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(_plain)
        axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    if any(_drawn(seen) for *_, seen in shown):
        figure.suptitle("Dots: validation; lines: training samples", fontsize=text_size(1.0))
    for axes in panels[len(shown) :]:
        axes.remove()
    for number, (axes, ends) in enumerate(labelled):
        if (
            not beside() or number % columns == columns - 1 or number == len(shown) - 1
        ):  # one colour, one point, in all panels
            label_ends(axes, ends)
    words = _words([pair for name, runs, seen in shown for pair in ((name, runs), (f"{name} in training", seen))])
    text = f"Metrics of the validations over samples. {words}."
    return Plot("metrics", "Metrics of the validations", text, figure)


def _drawn(runs: Runs) -> bool:
    return any(len(curve.value) > 1 for _, curves in runs for curve in curves)


def _title(title: str, runs: Runs, marked: Runs) -> str:
    if title != LOSS:
        return title
    if not _drawn(marked):
        return "Training loss"
    return "Loss: training, validation (dots)" if _drawn(runs) else "Validation loss"


def _draw(
    axes: Any, runs: Runs, over: str, factor: float = 1.0, signs: bool = False, thin: bool = False
) -> list[tuple[float, float, str, str]]:
    """Draw all repeats of every point over time or samples, with `signs` where points are few.

    Lines are `thin` where those of the training are drawn beside them. Returns the end of each point's first line.
    """
    ends = []
    for index, (name, curves) in enumerate(runs):
        known = [curve for curve in curves if len(curve.value) > 1 and getattr(curve, over).max() > 0]
        for number, curve in enumerate(known):
            first = not number
            axes.plot(
                factor * getattr(curve, over),
                curve.value,
                color=colour(index),
                marker=marker(index) if signs else "",
                markersize=3.6,
                lw=(0.7 if thin else 1.7) if first else 0.6,
                ls=(0, (3, 2)) if thin else "-",
                alpha=1.0 if first else 0.55,
            )
        if known:
            ends.append((factor * float(getattr(known[0], over)[-1]), float(known[0].value[-1]), name, colour(index)))
    return ends


def _scale(panels: Sequence[Any], runs: Runs, is_error: bool) -> None:
    values = [float(value) for _, curves in runs for curve in curves for value in curve.value]
    lowest = min((value for value in values if value > 0), default=1.0)
    logarithmic = max(values) > _DECADES * lowest and min(values) > 0
    for axes in panels:
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if max(values) < 100 * lowest else (1.0,)))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(bottom=min(0.0, *values))
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(_percent if is_error else _plain)


def _plain(value: float, _: object) -> str:
    return f"{value:.3g}"


def _percent(value: float, _: object) -> str:
    return f"{100 * value:.3g}%"


def _short(value: float) -> str:
    """Return a number of samples as 20k, 1.5M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:g}"


def _words(kinds: Sequence[tuple[str, Runs]]) -> str:
    lines = []
    for title, runs in kinds:
        for name, curves in runs:
            known = next((curve for curve in curves if len(curve.value) > 1), None)
            if known is not None:
                lines.append(
                    f"{title} of {name}: from {known.value[0]:.3g} to {known.value[-1]:.3g} in "
                    f"{_short(float(known.samples[-1]))} samples"
                )
    return "; ".join(lines)
