"""Training curves: loss and error over time and over samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import LogLocator, NullLocator

from hpcsynapse.report.curves import Curve
from hpcsynapse.report.plots.style import Plot, colour, label_ends, new_figure, time_unit

_LINES = 7
_DECADES = 8.0  # a loss that falls by more than this factor is drawn on a logarithmic axis
Runs = Sequence[tuple[str, Sequence[Curve]]]  # name of a point, and a curve for every repeat


def training_curves(loss: Runs, error: Runs) -> Plot | None:
    """Return training loss and test error, those that are known, each over time and over samples."""
    kinds = [(title, runs) for title, runs in (("Training loss", loss), ("Error on the test data", error))
             if any(len(curve.value) > 1 for _, curves in runs for curve in curves)]  # fmt: skip
    if not kinds:
        return None
    figure, panels = new_figure(7.0, 0.4 + 2.9 * len(kinds), len(kinds), 2)
    labelled = []
    for row, (title, runs) in enumerate(kinds):
        left, right = panels[2 * row : 2 * row + 2]
        longest = max(float(curve.time.max(initial=0.0)) for _, curves in runs for curve in curves)
        factor, unit = time_unit(longest)
        _draw(left, runs, "time", factor)
        ends = _draw(right, runs, "samples")
        left.set(xlabel=f"{unit} of training", title=title)
        right.set(xlabel="samples of all ranks")
        right.xaxis.set_major_formatter(lambda value, _: _short(value))
        _scale(left, right, runs, is_error=title != "Training loss")
        labelled.append((right, ends))
    for axes, ends in labelled:  # when the layout of all panels is settled
        label_ends(axes, ends)
    return Plot("training", "Training curves", _words(kinds), figure)


def _draw(axes: Any, runs: Runs, over: str, factor: float = 1.0) -> list[tuple[float, float, str, str]]:
    """Draw all repeats of every point over time or samples; returns the end of each point's first line."""
    ends = []
    for index, (name, curves) in enumerate(runs):
        known = [curve for curve in curves if len(curve.value) > 1 and getattr(curve, over).max() > 0]
        for number, curve in enumerate(known):
            axes.plot(factor * getattr(curve, over), curve.value, color=colour(index), lw=1.7 if not number else 0.8,
                      alpha=1.0 if not number else 0.55)  # fmt: skip
        if known:
            ends.append((factor * float(getattr(known[0], over)[-1]), float(known[0].value[-1]), name, colour(index)))
    return ends


def _scale(left: Any, right: Any, runs: Runs, is_error: bool) -> None:
    values = [float(value) for _, curves in runs for curve in curves for value in curve.value]
    lowest = min((value for value in values if value > 0), default=1.0)
    logarithmic = max(values) > _DECADES * lowest and min(values) > 0
    for axes in (left, right):
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if max(values) < 100 * lowest else (1.0,)))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(bottom=min(0.0, *values))
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(_percent if is_error else _plain)
    right.set_ylim(left.get_ylim())
    right.tick_params(labelleft=False)


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
                lines.append(f"{title} of {name}: from {known.value[0]:.3g} to {known.value[-1]:.3g} in "
                             f"{_short(float(known.samples[-1]))} samples")  # fmt: skip
    return "Over time (left) and over samples (right). " + "; ".join(lines) + "."
