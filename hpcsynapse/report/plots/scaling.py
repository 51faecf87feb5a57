"""Speedup, efficiency and throughput against ranks, and strategies side by side, from the rows of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import ScaledTranslation

from hpcsynapse.report.plots.axes import label_ends, limit_height, ranks_axis
from hpcsynapse.report.plots.series import Series
from hpcsynapse.report.plots.style import GREY, Plot, beside, count, new_figure, text_size, width_for
from hpcsynapse.report.points import ScalingPoint

_GROUPS = 8  # rank counts in the comparison of strategies


def speedup(series: Sequence[Series]) -> Plot:
    """Return speedup against ranks, with an ideal line for every baseline."""
    figure, [axes] = new_figure(lines=_names(series))
    ends = []
    for one in series:
        ends.append(_line(axes, one, "speedup", "{:.2f}x", anchor=1.0))
    ranks = _ranks(series)
    ranks_axis(axes, ranks)
    origins = sorted({one.origin[0] for one in series})
    for origin in origins:
        x = [origin, max(ranks)]
        axes.plot(x, [value / origin for value in x], color=GREY, ls="--", lw=1.2, zorder=1)
        name = "ideal" if len(origins) == 1 else f"ideal from {origin}"
        ends.append((x[1], x[1] / origin, name, GREY))
    if axes.get_xscale() == "log":
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    limit_height(axes, [1.0, *(end[1] for end in ends), *_values(series, "speedup")], _bars(series, "speedup"))
    scale = " (both axes logarithmic)" if axes.get_yscale() == "log" else ""
    axes.set(ylabel="speedup", title=f"Speedup against {_against(series)}", xlabel=f"ranks{scale}")
    label_ends(axes, ends)
    _values_of(axes, series, "speedup", "{:.2f}x", below=True)
    return Plot("speedup", axes.get_title("left"), _words("Speedup", series, "speedup", "{:.2f}"), figure)


def efficiency(series: Sequence[Series]) -> Plot:
    """Return efficiency against ranks."""
    figure, [axes] = new_figure(lines=_names(series))
    ends = [_line(axes, one, "efficiency", "{:.0%}", anchor=1.0) for one in series]
    ranks_axis(axes, _ranks(series))
    axes.axhline(1.0, color=GREY, ls="--", lw=1.2, zorder=1)
    limit_height(axes, [1.0, *_values(series, "efficiency")], _bars(series, "efficiency"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(ylabel="efficiency", title=f"Efficiency against {_against(series)}")
    label_ends(axes, [*ends, (axes.get_xlim()[1], 1.0, "ideal", GREY)])
    _values_of(axes, series, "efficiency", "{:.0%}", below=False)
    return Plot("efficiency", axes.get_title("left"), _words("Efficiency", series, "efficiency", "{:.1%}"), figure)


def throughput(series: Sequence[Series]) -> Plot | None:
    """Return samples per second against ranks, or None where nobody counted samples."""
    known = [one for one in series if all(row.throughput for row in one.rows)]
    if not known:
        return None
    figure, [axes] = new_figure(lines=_names(known))
    bases = {one.label: _base(one) for one in known}
    ends = [_line(axes, one, "throughput", "{:,.0f}", anchor=bases[one.label]) for one in known]
    ranks = _ranks(known)
    ideals = []
    for origin, base in sorted({(one.origin[0], round(bases[one.label], 6)) for one in known}):
        ideal = [base, base * max(ranks) / origin]
        axes.plot([origin, max(ranks)], ideal, color=GREY, ls="--", lw=1.2, zorder=1)
        ideals += ideal
    if len(ideals) == 2:
        ends.append((max(ranks), ideals[1], "ideal", GREY))
    ranks_axis(axes, ranks)
    if axes.get_xscale() == "log":
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")
    limit_height(axes, [*ideals, *_values(known, "throughput")], _bars(known, "throughput"))
    title = "Throughput" if len(ideals) == 2 else "Throughput (dashed: proportional to ranks)"
    axes.set(ylabel="samples/s", title=title)
    label_ends(axes, ends)
    _values_of(axes, known, "throughput", "{:,.0f}", below=True)
    return Plot("throughput", "Throughput", _words("Samples per second", known, "throughput", "{:,.0f}"), figure)


def strategies(series: Sequence[Series]) -> Plot | None:
    """Return the throughput of strategies on equal rank counts, or None where fewer than two can be compared."""
    at: dict[tuple[Any, ...], list[tuple[Series, ScalingPoint]]] = {}
    for one in series:
        for row in one.rows:
            if row.throughput:
                at.setdefault((row.model, row.data, row.batch_per_rank, row.ranks), []).append((one, row))
    groups = [
        sorted(found, key=lambda pair: -(pair[1].throughput or 0.0))
        for _, found in sorted(at.items(), key=str)
        if len({(row.strategy, row.engine) for _, row in found}) > 1
    ]
    groups = sorted(groups, key=lambda found: found[0][1].ranks)[-_GROUPS:]
    if not groups:
        return None
    figure, [axes] = new_figure(
        width_for([f"{one.label}, 16 ranks" for one in series]), 1.3 + 0.27 * (sum(map(len, groups)) + len(groups))
    )
    place, ticks = 0.0, []
    for found in groups:
        best = found[0][1].throughput or 1.0
        for one, row in found:
            value = row.throughput or 0.0
            axes.barh(place, value, height=0.78, color=one.shade)
            axes.annotate(
                f"{count(value)}  ({value / best:.0%})",
                (value, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=text_size(0.9),
            )
            ticks.append((place, f"{one.label}, {row.ranks} rank{'s' if row.ranks > 1 else ''}"))
            place += 1
        place += 0.6
    axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks])
    axes.invert_yaxis()
    axes.margins(x=0.2 if beside() else 0.45)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set(xlabel="samples/s (in brackets: of the best on as many ranks)", title="Strategies compared")
    words = "; ".join(
        f"{found[0][1].ranks} ranks: " + ", ".join(f"{one.label} {count(row.throughput or 0)}" for one, row in found)
        for found in groups
    )
    return Plot("strategies", "Strategies compared", f"Samples per second of every strategy. {words}.", figure)


def _names(series: Sequence[Series]) -> int:
    """How many names stand beside a plot: those of all lines and of the ideal ones."""
    return len(series) + len({one.origin for one in series})


def _base(one: Series) -> float:
    """Return the throughput of a line's baseline, which may be another strategy's."""
    first = one.rows[0]
    return (first.throughput or 0.0) / first.speedup


def _against(series: Sequence[Series]) -> str:
    origins = {one.origin for one in series}
    if len(origins) > 1:
        return "each line's own baseline"
    ranks, strategy = origins.pop()
    return f"{strategy + ' on ' if strategy else ''}{ranks} rank{'s' if ranks > 1 else ''}"


def _line(
    axes: Any, one: Series, quantity: str, form: str, anchor: float | None = None
) -> tuple[float, float, str, str]:
    """Draw a line with its intervals, from its baseline on where that is another strategy's.

    Returns its end with its name and its last value.
    """
    x = [row.ranks for row in one.rows]
    y = [float(getattr(row, quantity)) for row in one.rows]
    bars = [_interval(row, quantity, value) for row, value in zip(one.rows, y, strict=True)]
    below, above = [value[0] for value in bars], [value[1] for value in bars]
    axes.plot(x, y, color=one.shade, marker=one.sign, ls=one.dash, zorder=3)
    moved = ScaledTranslation(one.place / 72, 0, axes.figure.dpi_scale_trans)
    look: dict[str, Any] = {"capsize": 3.5, "elinewidth": 1.2, "zorder": 2.5, "transform": axes.transData + moved}
    axes.errorbar(x, y, yerr=[below, above], color=one.shade, ls="none", **look)
    if anchor is not None and one.origin[0] < x[0]:
        axes.plot([one.origin[0], x[0]], [anchor, y[0]], color=one.shade, lw=1.1, ls=":", zorder=2)
    return x[-1], y[-1], f"{one.label} {form.format(y[-1])}", one.shade


def _values_of(axes: Any, series: Sequence[Series], quantity: str, form: str, below: bool) -> None:
    """Write the values beside the points of a single line, but for its baseline and the last, which its name tells."""
    for row in series[0].rows[:-1] if len(series) == 1 else ():
        if row.ranks == row.baseline_ranks:
            continue
        axes.annotate(
            form.format(getattr(row, quantity)),
            (row.ranks, getattr(row, quantity)),
            xytext=(5, -4 if below else 4),
            textcoords="offset points",
            va="top" if below else "bottom",
            fontsize=text_size(0.8),
            color=series[0].shade,
        )


def _ranks(series: Sequence[Series]) -> list[int]:
    """Return all rank counts, with those of the baselines."""
    return [row.ranks for one in series for row in one.rows] + [one.origin[0] for one in series]


def _values(series: Sequence[Series], quantity: str) -> list[float]:
    return [float(getattr(row, quantity)) for one in series for row in one.rows]


def _bars(series: Sequence[Series], quantity: str) -> list[tuple[float, float, float, str]]:
    """Return the intervals of a quantity: ranks, both ends, and the colour of the line."""
    found = []
    for one in series:
        for row in one.rows:
            value = float(getattr(row, quantity))
            below, above = _interval(row, quantity, value)
            found.append((float(row.ranks), value - below, value + above, one.shade))
    return found


def _interval(row: ScalingPoint, quantity: str, value: float) -> tuple[float, float]:
    low, high = getattr(row, f"{quantity}_low", None), getattr(row, f"{quantity}_high", None)
    return (0.0, 0.0) if low is None or high is None else (max(0.0, value - low), max(0.0, high - value))


def _words(what: str, series: Sequence[Series], quantity: str, form: str) -> str:
    """Return the figures of all lines as a sentence each."""
    lines = []
    for one in series:
        values = ", ".join(f"{form.format(getattr(row, quantity))} on {row.ranks}" for row in one.rows)
        lines.append(f"{one.label}: {values} rank{'s' if one.rows[-1].ranks > 1 else ''}")
    return f"{what} against ranks. " + "; ".join(lines) + "."
