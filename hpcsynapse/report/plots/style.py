"""How figures look, and how they become files: without a display, and the same bytes for the same figures."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito, Color Universal Design (2008), told apart with every kind of colour vision; pale yellow left out, and
# orange and sky blue darkened until all stand out from white by 3 to 1 (WCAG 2.2, 1.4.11).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#B07A00", "#2E8BC0")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#222222"
GREY = "#6B6B6B"
DOTS_PER_INCH = 150
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so figures are the same everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # names of runs are no formulas
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Plot:
    """A figure with its file name, its title, and in words what it shows, for those who cannot see it."""

    name: str
    title: str
    text: str
    figure: Figure


@contextmanager
def style() -> Iterator[None]:
    """Use the look of all figures, for what is drawn inside."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(_STYLE)
        yield


def new_figure(width: float = 7.0, height: float = 4.3, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Any]]:
    """Return a figure (sizes in inches) and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def settle(figure: Figure) -> None:
    """Fix the places of all axes: every drawing would move them a little further, and files would differ."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def to_png(plot: Plot) -> bytes:
    """Return a figure as PNG."""
    data = io.BytesIO()
    with style():
        plot.figure.savefig(data, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None, "Title": plot.title})
    return data.getvalue()


def to_svg(plot: Plot) -> str:
    """Return a figure as SVG without date; ids inside are made from the plot's name."""
    data = io.StringIO()
    with style(), mpl.rc_context({"svg.hashsalt": plot.name}):
        plot.figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None, "Title": plot.title})
    return "\n".join(line.rstrip() for line in data.getvalue().splitlines()) + "\n"


def colour(index: int) -> str:
    """Return the colour of a series."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Return the marker of a series: others again when the colours begin anew."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def label_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names beside the ends of lines: (x, y, name, colour), moved apart where they would overlap.

    To be called when limits and scales of the axes are settled.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # the layout decides how high the axes are
    to_fraction = axes.transData + axes.transAxes.inverted()
    height = axes.get_window_extent().height / figure.dpi * 72  # points
    gap = 12.5 / height
    wanted = sorted((float(to_fraction.transform((x, y))[1]), float(to_fraction.transform((x, y))[0]), name, shade)
                    for x, y, name, shade in ends)  # fmt: skip
    places = spread([min(max(y, 0.0), 1.0) for y, *_ in wanted], gap)
    for (y, x, name, shade), place in zip(wanted, places, strict=True):
        axes.annotate(
            name, xy=(x, y), xytext=(1.03, place), xycoords="axes fraction", textcoords="axes fraction",
            va="center", fontsize=9, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shade, "lw": 0.7, "shrinkA": 1, "shrinkB": 4, "alpha": 0.7,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


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
    """Lay out the axis of rank counts: ticks where points are, logarithmic where they spread."""
    places = sorted(set(ranks))
    if places[-1] >= 4 * places[0]:
        axes.set_xscale("log", base=2)
    while len(places) > 9:  # the last one stays
        places = places[::-2][::-1]
    axes.set_xticks(places, [str(place) for place in places])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("ranks")


def short(name: str, longest: int = 30) -> str:
    """Return a name with its middle left out where it is too long to stand in a figure."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"


def width_for(names: Sequence[str]) -> float:
    """Return the width of a figure whose vertical axis bears these names, in inches."""
    return 7.0 + 0.08 * max(0, max(map(len, names), default=0) - 22)


def seconds(value: float) -> str:
    """Return a time with three digits in s, ms or us."""
    factor, unit = (1, "s") if value >= 0.9995 else (1e3, "ms") if value >= 0.9995e-3 else (1e6, "us")
    return f"{value * factor:.3g} {unit}"


def count(value: float) -> str:
    """Return a number with at least four digits, none behind the point from 1000 on."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def time_unit(largest: float) -> tuple[float, str]:
    """Return factor and name of the unit in which an axis up to this many seconds is labelled."""
    for limit, factor, unit in ((2e-3, 1e6, "microseconds"), (2.0, 1e3, "milliseconds"), (300.0, 1.0, "seconds"),
                                (7200.0, 1 / 60, "minutes")):  # fmt: skip
        if largest < limit:
            return factor, unit
    return 1 / 3600, "hours"
