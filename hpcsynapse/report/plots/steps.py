"""Where time goes: step times as distribution and cumulative curve, phases per point, the loss from point to point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcsynapse.report.compared import Compared
from hpcsynapse.report.plots.series import labels
from hpcsynapse.report.plots.style import (
    COLOURS,
    GREY,
    INK,
    Plot,
    beside,
    colour,
    dashes,
    new_figure,
    seconds,
    short,
    text_size,
    time_unit,
    width_for,
)
from hpcsynapse.report.points import Point
from hpcsynapse.report.scaling import SINGLE
from hpcsynapse.report.varied import apart, brief, chosen, differing, told
from hpcsynapse.report.why import PARTS, Loss
from hpcsynapse.report.why import step_times as times_of_step

# Data, forward, backward, waiting, exchange, update and what lies between; text on them contrasts by 4.5 to 1 (WCAG
# 1.4.3); waiting and exchange as in the waterfall.
_PHASE_COLOURS = ("#E69F00", "#56B4E9", "#0072B2", "#CC79A7", "#D55E00", "#009E73", "#8A8A8A")
_PHASE_HATCHES = ("....", "", "", "////", "", "\\\\\\\\", "")  # in grey, colours that touch look alike
_PHASE_INK = ("black", "black", "white", "black", "black", "black", "black")
_PART_COLOURS = dict(
    zip(
        PARTS,
        (
            "#E69F00",
            "#0072B2",
            "#D55E00",
            "#CC79A7",
            "#8A8A8A",
            "#56B4E9",
            "#F0E442",
            "#B5651D",
            "#7B4FA3",
            "#A3162E",
            "#4D4D4D",
            "#C8C8C8",
            "#009E73",
        ),
        strict=True,
    )
)
_GRID = 400  # points of a cumulative curve
_PANELS = 6
_LEAST = 0.0005  # fraction that is not shown as nothing
Named = Sequence[tuple[str, Point]]


def step_times(points: Named) -> Plot | None:
    """Return how long steps took: boxes of the middle 50 and 90 %, and the cumulative curve."""
    times = [(name, np.sort(_times(point))) for name, point in points]
    times = [(name, values) for name, values in times if len(values)]
    if not times:
        return None
    largest = max(float(values[int(0.99 * (len(values) - 1))]) for _, values in times)
    smallest = min(float(values[0]) for _, values in times)
    factor, unit = time_unit(largest)
    figure, [boxes, curves] = new_figure(
        width_for([name for name, _ in times]), 1.6 + 0.45 * max(4, len(times)), columns=2
    )
    for index, (_, values) in enumerate(times):
        low, quarter, middle, three, high = factor * np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
        boxes.plot([low, high], [index, index], color=colour(index), lw=1.6, ls=dashes(index))
        boxes.barh(index, three - quarter, left=quarter, height=0.5, color=colour(index))
        boxes.plot([middle, middle], [index - 0.33, index + 0.33], color=INK, lw=1.4)
        share = np.linspace(0, 1, min(_GRID, len(values)))
        curves.plot(factor * np.quantile(values, share), share, color=colour(index), lw=1.6, ls=dashes(index))
    boxes.set_yticks(range(len(times)), [name for name, _ in times])
    boxes.set_ylim(len(times) - 0.4, -0.6)
    boxes.grid(visible=False, axis="y")
    boxes.set(xlabel=unit, title="Median, middle 50 and 90 %")
    for axes in (boxes, curves):
        if largest > 8 * smallest:
            axes.set_xscale("log")
    boxes.set_xlim(0.95 * factor * smallest, 1.05 * factor * largest)
    curves.set_xlim(boxes.get_xlim())
    curves.set_ylim(0, 1.02)
    curves.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    lines = "left" if beside() else "above"
    curves.set(xlabel=unit, title=f"Share of steps (lines as {lines})")
    return Plot("step-times", "Step times", _words_of_times(times), figure)


def _times(point: Point) -> Any:
    """Return the step times of all repeats (s): of the slowest rank, for asynchronous runs of every worker."""
    found = [one.run.worker_times if one.run.about.asynchronous else one.series for one in point.repeats]
    return np.concatenate(found)


def _words_of_times(times: Sequence[tuple[str, Any]]) -> str:
    lines = []
    for name, values in times:
        low, middle, high = (seconds(float(value)) for value in np.quantile(values, (0.05, 0.5, 0.95)))
        lines.append(f"{name}: median {middle}, 90 % between {low} and {high}")
    return "Distribution of step times and its cumulative curve. " + "; ".join(lines) + "."


def phases(points: Named) -> Plot | None:
    """Return the mean time of a step in every phase, stacked, a bar per point.

    What is spent in the collective is split into waiting for the slowest rank and exchange, as `report why` does.
    """
    found = [(name, [times_of_step(one) for one in point.repeats]) for name, point in points]
    rows = [(name, np.mean([list(one.values()) for one in repeats], axis=0)) for name, repeats in found]
    if not rows or max(float(times[:-1].sum()) for _, times in rows) <= 0:
        return None  # a program of the user's own that marks no phases
    longest = max(float(times.sum()) for _, times in rows)
    factor, unit = time_unit(longest)
    figure, [axes] = new_figure(width_for([name for name, _ in rows]), 1.7 + 0.36 * len(rows))
    names = tuple(found[0][1][0])
    for index, (_, times) in enumerate(rows):
        left = 0.0
        for number, value in enumerate(factor * times):
            axes.barh(
                index,
                value,
                left=left,
                height=0.72,
                color=_PHASE_COLOURS[number],
                edgecolor=INK,
                lw=0.5,
                hatch=_PHASE_HATCHES[number],
                label=names[number] if index == 0 else None,
            )
            if value > 0.07 * factor * longest:
                axes.text(
                    left + value / 2,
                    index,
                    f"{value:.3g}",
                    ha="center",
                    va="center",
                    fontsize=text_size(0.8),
                    color=_PHASE_INK[number],
                    bbox={"facecolor": _PHASE_COLOURS[number], "edgecolor": "none", "pad": 1.0},
                )
            left += value
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=f"{unit} of a step, mean over ranks and steps", title="Phases of a step")
    figure.legend(
        loc="outside lower center",
        ncols=len(names) if beside() else 4,
        fontsize=text_size(0.9),
        columnspacing=1.2,
        handlelength=1.2,
    )
    return Plot("phases", "Phases of a step", _words_of_phases(rows, names), figure)


def _words_of_phases(rows: Sequence[tuple[str, Any]], names: Sequence[str]) -> str:
    lines = []
    for name, times in rows:
        parts = [f"{phase} {seconds(float(value))}" for phase, value in zip(names, times, strict=True) if value]
        lines.append(f"{name}: {', '.join(parts)}")
    return "Mean time of a step in every phase. " + "; ".join(lines) + "."


def waterfall(losses: Sequence[Loss]) -> Plot | None:
    """Return where efficiency went from one number of ranks to the next, a panel for each of the largest losses."""
    most = _PANELS if beside() else _PANELS // 2
    shown = sorted(sorted(losses, key=lambda loss: loss.efficiency)[:most], key=losses.index)
    if not shown:
        return None
    columns = min(len(shown), 2)
    rows = -(-len(shown) // columns)
    figure, panels = new_figure(7.0, 0.3 + 2.35 * rows, rows, columns)
    for number, axes in enumerate(panels):
        if number < len(shown):
            _steps_down(axes, shown[number])
        else:
            axes.set_axis_off()
        if beside() and number % columns:
            axes.set_yticklabels([])
    words = []
    for loss in shown:
        parts = ", ".join(f"{part} {100 * share:.1f} %" for part, share in _shares(loss))
        words.append(f"{_title(loss).replace(chr(10), ' ')}: {parts}; {loss.efficiency:.1%} is left")
    text = f"Share of rank-seconds lost to each part. {'. '.join(words)}."
    return Plot("loss", "Where efficiency was lost", text, figure)


def _shares(loss: Loss) -> list[tuple[str, float]]:
    """Return the parts that are shown, as fractions of the larger point's rank-seconds."""
    return [(part, (after - before) / float(loss.after.sum())) for part, before, after in loss.shown]


def _steps_down(axes: Any, loss: Loss) -> None:
    """Draw one loss: from 100 % down by every part to what is left."""
    level = 1.0
    axes.barh(0, level, height=0.72, color=GREY)
    shares = _shares(loss)
    for index, (part, share) in enumerate(shares, 1):
        axes.plot([level, level], [index - 1.36, index + 0.36], color=GREY, lw=0.7)
        axes.barh(index, share, left=level - share, height=0.72, color=_PART_COLOURS[part])
        text = f"{100 * share:.1f}%" if share < 0 else f"\N{MINUS SIGN}{100 * share:.1f}%"
        axes.annotate(
            text.replace("-", "+") if abs(share) >= _LEAST else "0",
            (min(level, level - share), index),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=text_size(0.8),
        )
        level -= share
    last = len(shares) + 1
    axes.plot([level, level], [last - 1.36, last + 0.36], color=GREY, lw=0.7)
    axes.barh(last, level, height=0.72, color=INK)
    for place, value in ((0, 1.0), (last, level)):
        axes.text(
            value / 2, place, f"{100 * value:.1f}%", color="white", ha="center", va="center", fontsize=text_size(0.8)
        )
    axes.set_yticks(range(last + 1), ["before", *(part for part, _ in shares), "after"])
    axes.set_ylim(last + 0.6, -0.6)
    axes.set_xlim(0, 1.04 * max(1.0, level))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(visible=False, axis="y")
    axes.set_title(_title(loss), fontsize=text_size(1.0))


def _title(loss: Loss) -> str:
    before, after = loss.baseline.ranks, loss.point.ranks
    strategy = loss.point.first.run.about.strategy
    ends = f"{before} to {after} rank{'s' if after > 1 else ''}"
    what = ", ".join(filter(None, (strategy, brief(loss.settings))))
    return f"{what}: {ends}" if len(what) < 18 else f"{short(what)}:\n{ends}"


def named_points(compared: Sequence[Compared]) -> Named:
    """Return every point once, with a name that tells it from the others and its ranks."""
    points = sorted({id(point): point for one in compared for point in one.points}.values(), key=_order)
    names = labels(_told(points))
    return [
        (f"{name}, {point.ranks} rank{'s' if point.ranks > 1 else ''}", point)
        for name, point in zip(names, points, strict=True)
    ]


def largest(points: Named, count: int = len(COLOURS)) -> Named:
    """Return the points with the most ranks, as many as there are colours, in their order."""
    kept = {id(point) for _, point in sorted(points, key=lambda pair: -pair[1].ranks)[:count]}
    return [(name, point) for name, point in points if id(point) in kept]


def _told(points: Sequence[Point]) -> list[tuple[str, ...]]:
    """Return what tells points apart but ranks, settings only where those of equal ranks differ in them."""
    names = differing(point.first.run.about.settings for point in points)
    settings = [told(chosen(point.first.run.about.settings, names)) for point in points]
    places = [(_facts(point), point.ranks, point.nodes) for point in points]
    divided = apart(zip(places, settings, strict=True))
    return [(*_facts(point), brief(one) if divided else "") for point, one in zip(points, settings, strict=True)]


def _facts(point: Point) -> tuple[str, ...]:
    about = point.first.run.about
    return about.strategy, about.engine, about.model, about.data, f"batch {point.batch_per_rank:g} a rank"


def _order(point: Point) -> tuple[Any, ...]:
    strategy, *others, _ = _facts(point)
    return strategy != SINGLE, strategy, others, point.ranks, point.nodes, point.batch_per_rank
