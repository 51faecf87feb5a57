"""Training time against batch, a line for every set-up, as the brain-imaging thesis tabulates it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcsynapse.report.plots.axes import label_ends
from hpcsynapse.report.plots.style import Plot, colour, dashes, marker, new_figure, short, time_unit
from hpcsynapse.report.points import ScalingPoint
from hpcsynapse.report.publication import by_setup
from hpcsynapse.report.varied import apart, brief

_PANELS = 4
Line = list[tuple[float, float]]  # batch of a rank, hours


def time_by_batch(rows: Sequence[ScalingPoint]) -> Plot | None:
    """Return the time of the training against the batch of a rank; None where no set-up has two batches."""
    panels: dict[tuple[str, str, str], dict[str, Line]] = {}
    known = by_setup(rows)
    divided = apart(((row.model, row.data, setup, row.batch_per_rank), row.settings) for row, setup in known)
    for row, setup in known:
        if row.batch_per_rank and row.train_time_h is not None:
            lines = panels.setdefault((row.model, row.data, brief(row.settings) if divided else ""), {})
            lines.setdefault(setup, []).append((row.batch_per_rank, row.train_time_h))
    shown = {key: lines for key, lines in panels.items() if any(len(_batches(line)) > 1 for line in lines.values())}
    if not shown:
        return None
    kept = list(shown.items())[:_PANELS]
    setups = list(dict.fromkeys(setup for _, lines in kept for setup in lines))
    figure, axes = new_figure(7.0, 0.5 + 3.1 * len(kept), len(kept))
    labelled = [_panel(one, _title(*key), lines, setups) for one, (key, lines) in zip(axes, kept, strict=True)]
    for one, ends in zip(axes, labelled, strict=True):  # when the layout of all panels is settled
        label_ends(one, ends)
    words = "; ".join(
        f"{_title(*key)}, {setup}: {_words(line)}" for key, lines in kept for setup, line in lines.items()
    )
    text = f"Hours of training by batch of a rank, for nodes x ranks on each. {words}."
    return Plot("time-by-batch", "Training time by batch", text, figure)


def _title(model: str, data: str, settings: str) -> str:
    return ", ".join(filter(None, (" on ".join(filter(None, (model, data))), settings)))


def _batches(line: Line) -> set[float]:
    return {batch for batch, _ in line}


def _panel(axes: Any, title: str, lines: dict[str, Line], setups: Sequence[str]) -> list[tuple[float, float, str, str]]:
    ends, hours = [], [value for line in lines.values() for _, value in line]
    factor, unit = time_unit(3600 * max(hours))
    for setup, line in lines.items():
        index = setups.index(setup)
        x, y = zip(*sorted(line), strict=True)
        y = tuple(3600 * factor * value for value in y)
        axes.plot(x, y, color=colour(index), marker=marker(index), ls=dashes(index))
        ends.append((x[-1], y[-1], short(setup), colour(index)))
    batches = sorted({batch for line in lines.values() for batch in _batches(line)})
    if batches[-1] >= 4 * batches[0]:
        axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [f"{batch:g}" for batch in batches])
    axes.set_xticks([], minor=True)
    if max(hours) > 8 * min(hours):
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel="batch of a rank", ylabel=f"{unit} of training", title=f"Training time: {title or 'by batch'}")
    return ends


def _words(line: Line) -> str:
    return ", ".join(f"{hours:.3g} at {batch:g}" for batch, hours in sorted(line))
