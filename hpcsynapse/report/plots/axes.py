"""Axes of plots: names beside the ends of lines, the axis of rank counts, and heights that intervals do not blow up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcsynapse.report.plots.style import text_size


def label_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names beside the ends of lines: (x, y, name, colour), moved apart where they would overlap.

    To be called when limits and scales of the axes are settled.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # the layout decides how high the axes are
    to_fraction = axes.transData + axes.transAxes.inverted()
    height = axes.get_window_extent().height / figure.dpi * 72  # points
    gap = text_size(1.25) / height
    wanted = sorted(
        (float(to_fraction.transform((x, y))[1]), float(to_fraction.transform((x, y))[0]), name, shade)
        for x, y, name, shade in ends
    )
    places = spread([min(max(y, 0.0), 1.0) for y, *_ in wanted], gap)
    for (y, x, name, shade), place in zip(wanted, places, strict=True):
        axes.annotate(
            name, xy=(x, y), xytext=(1.03, place), xycoords="axes fraction", textcoords="axes fraction",
            va="center", fontsize=text_size(0.9), annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shade, "lw": 0.7, "shrinkA": 1, "shrinkB": 4, "alpha": 0.7,
                        "relpos": (0, 0.5)},
        )  # fmt: skip  # a signature


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Return places at least `gap` apart, in order and close to those wanted (sorted)."""
    blocks: list[list[float]] = []  # middle of a block of names that touch, and how many they are
    for place in wanted:
        blocks.append([place, 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < gap * (blocks[-1][1] + blocks[-2][1]) / 2:
            middle, count = blocks.pop()
            before, others = blocks.pop()
            blocks.append([(middle * count + before * others) / (count + others), count + others])
    return [middle + gap * (index - (count - 1) / 2) for middle, count in blocks for index in range(int(count))]


def ranks_axis(axes: Any, ranks: Sequence[int]) -> None:
    """Lay out the axis of rank counts: ticks where points are, logarithmic where they spread; as wide for equal ranks.

    To be called when all lines are drawn.
    """
    places = sorted(set(ranks))
    first, last = places[0], places[-1]
    if last >= 4 * first:
        axes.set_xscale("log", base=2)
        edge = (last / first) ** 0.05
        axes.set_xlim(first / edge, last * edge)
    else:
        edge = 0.05 * (last - first) or 0.5
        axes.set_xlim(first - edge, last + edge)
    while len(places) > 9:  # the last one stays
        places = places[::-2][::-1]
    axes.set_xticks(places, [str(place) for place in places])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("ranks")


def limit_height(axes: Any, shown: Sequence[float], bars: Sequence[tuple[float, float, float, str]]) -> None:
    """Set the vertical axis by what must be `shown` (> 0); intervals beyond get an arrow at the edge.

    `bars` are intervals: (x, low, high, colour). To be called when the horizontal axis is settled.
    """
    top = max(max(shown), min(max((high for _, _, high, _ in bars), default=0.0), 1.2 * max(shown)))
    bottom = 0.0
    if axes.get_yscale() == "log":
        lowest = min((low for _, low, _, _ in bars if low > 0), default=min(shown))
        bottom = min(min(shown), max(lowest, min(shown) / 2)) / 1.1
        axes.set_ylim(bottom, 1.1 * top)
    else:
        axes.set_ylim(bottom, 1.06 * top)
    bottom, top = axes.get_ylim()
    for x, low, high, shade in bars:
        for beyond, edge, sign in ((high > top, top, "^"), (low < bottom, bottom, "v")):
            if beyond:
                axes.plot([x], [edge], marker=sign, markersize=8, color=shade, clip_on=False, zorder=4)
