"""How figures look, and how they become files: without a display, and the same bytes for the same figures."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito, Color Universal Design (2008), told apart with every kind of colour vision; pale yellow left out, and
# orange and sky blue darkened until all stand out from white by 3 to 1 (WCAG 2.2, 1.4.11).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#B07A00", "#2E8BC0")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# So that lines are told apart in grey as well.
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (9, 2)),
    (0, (4, 1, 1, 1, 1, 1)),
)
INK = "#222222"
GREY = "#6B6B6B"
DOTS_PER_INCH = 150
_LABEL = 32  # letters in a line below a narrow plot
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so figures are the same everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlepad": 9,
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
    "pdf.fonttype": 42,  # journals refuse type 3
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Fit:
    """The place that figures are drawn for.

    `width` in inches (None: as wide as their names need), `text` in points, `height` of plots of lines as a share of
    that on a page; whether panels stand `beside` one another, and single panels have a title (else a caption tells it).
    """

    width: float | None = None
    text: float = 10.0
    height: float = 1.0
    beside: bool = True
    titled: bool = True


FITS = {
    "page": Fit(),
    "two-columns": Fit(width=7.0, text=9.0, height=0.85, titled=False),  # 17.8 cm
    "one-column": Fit(width=3.35, text=8.0, height=0.58, beside=False, titled=False),  # 8.5 cm
}
NARROW = Fit(width=3.75, text=9.0, height=0.7, beside=False)  # for a page on a telephone
_FIT: ContextVar[Fit] = ContextVar("fit", default=FITS["page"])


@dataclass(frozen=True)
class Plot:
    """A figure with its file name, its title, and in words what it shows, for those who cannot see it.

    It is saved as it was drawn: its `fit` decides on ticks, too.
    """

    name: str
    title: str
    text: str
    figure: Figure
    fit: Fit = field(default_factory=lambda: _FIT.get())


@contextmanager
def style(fit: Fit = FITS["page"]) -> Iterator[None]:
    """Use the look of all figures, for what is drawn inside."""
    token = _FIT.set(fit)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()  # whatever the user's matplotlibrc says
            mpl.rcParams.update(_STYLE)
            mpl.rcParams.update(_scaled(fit.text / _STYLE["font.size"]))
            yield
    finally:
        _FIT.reset(token)


def _scaled(factor: float) -> dict[Any, float]:
    names = ("font.size", "axes.titlesize", "axes.titlepad", "lines.linewidth", "lines.markersize")
    return {name: factor * _STYLE[name] for name in names}


def text_size(share: float) -> float:
    """Return the size of a text in points, by its share of the ordinary one."""
    return share * float(mpl.rcParams["font.size"])


def beside() -> bool:
    """Tell whether panels of a row stand beside one another, or else below."""
    return _FIT.get().beside


def new_figure(
    width: float = 7.0, height: float | None = None, rows: int = 1, columns: int = 1, lines: int = 0
) -> tuple[Figure, list[Any]]:
    """Return a figure and its axes, row by row; sizes in inches on a page, from which those of other places follow.

    Without a height it is that of a plot of lines, with the room that the names of so many `lines` need.
    """
    fit = _FIT.get()
    scale = fit.text / _STYLE["font.size"]
    height = max(4.3 * fit.height, (1.2 + 0.18 * lines) * scale) if height is None else height * scale
    if not fit.beside and columns > 1:
        rows, columns, height = rows * columns, 1, height * columns * 0.85
    figure = Figure(figsize=(fit.width or width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def settle(figure: Figure) -> None:
    """Fix the places of all axes: every drawing would move them a little further, and files would differ.

    In a paper a caption says what a single panel is, so it has no title there.
    """
    if not _FIT.get().titled and len(figure.axes) == 1:
        figure.axes[0].set_title("", loc="left")
    for axes in () if beside() else figure.axes:
        axes.set_xlabel(textwrap.fill(axes.get_xlabel(), _LABEL))
    figure.draw_without_rendering()
    if not beside():  # axes so small may have other ticks by now
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def to_png(plot: Plot) -> bytes:
    """Return a figure as PNG."""
    data = io.BytesIO()
    with style(plot.fit):
        plot.figure.savefig(data, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None, "Title": plot.title})
    return data.getvalue()


def to_pdf(plot: Plot) -> bytes:
    """Return a figure as PDF without date, for LaTeX; its texts stay texts."""
    data = io.BytesIO()
    with style(plot.fit):
        facts = {"CreationDate": None, "Creator": None, "Producer": None, "Title": plot.title}
        plot.figure.savefig(data, format="pdf", metadata=facts)
    return data.getvalue()


def to_svg(plot: Plot) -> str:
    """Return a figure as SVG without date; ids inside are made from the plot's name."""
    data = io.StringIO()
    with style(plot.fit), mpl.rc_context({"svg.hashsalt": plot.name}):
        plot.figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None, "Title": plot.title})
    return "\n".join(line.rstrip() for line in data.getvalue().splitlines()) + "\n"


def colour(index: int) -> str:
    """Return the colour of a series."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Return the marker of a series: others again when the colours begin anew."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def dashes(index: int) -> Any:
    """Return how the line of a series is dashed: the first is not."""
    return DASHES[index % len(DASHES)]


def short(name: str, longest: int | None = None) -> str:
    """Return a name with its middle left out where it is too long to stand in a figure."""
    longest = longest or (30 if beside() else 18)
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"


def width_for(names: Sequence[str]) -> float:
    """Return the width of a figure whose vertical axis bears these names, in inches."""
    return 7.0 + 0.08 * max(0, max(map(len, names), default=0) - 22)


def seconds(value: float) -> str:
    """Return a time with three digits in s, ms or µs."""
    factor, unit = (1, "s") if value >= 0.9995 else (1e3, "ms") if value >= 0.9995e-3 else (1e6, "µs")
    return f"{value * factor:.3g} {unit}"


def count(value: float) -> str:
    """Return a number with at least four digits, none behind the point from 1000 on."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def time_unit(largest: float) -> tuple[float, str]:
    """Return factor and name of the unit in which an axis up to this many seconds is labelled."""
    for limit, factor, unit in (
        (2e-3, 1e6, "microseconds"),
        (2.0, 1e3, "milliseconds"),
        (300.0, 1.0, "seconds"),
        (7200.0, 1 / 60, "minutes"),
    ):
        if largest < limit:
            return factor, unit
    return 1 / 3600, "hours"
