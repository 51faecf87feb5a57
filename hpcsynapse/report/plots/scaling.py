"""Speedup, efficiency and throughput against ranks, and strategies side by side, from the rows of a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import PercentFormatter

from hpcsynapse.report.plots.style import (
    GREY,
    Plot,
    colour,
    count,
    label_ends,
    marker,
    new_figure,
    ranks_axis,
    short,
    width_for,
)
from hpcsynapse.report.points import ScalingPoint

_GROUPS = 8  # rank counts in the comparison of strategies


@dataclass(frozen=True)
class Series:
    """A line of a plot: rows that differ in ranks alone, by ranks."""

    label: str
    rows: tuple[ScalingPoint, ...]
    shade: str
    sign: str

    @property
    def origin(self) -> tuple[int, str]:
        """Ranks and strategy of the baseline."""
        return self.rows[0].baseline_ranks, self.rows[0].baseline_strategy


def series_of(rows: Iterable[ScalingPoint]) -> list[Series]:
    """Return the lines of a report in its order; a lone point that only serves as a baseline is not one of them."""
    groups: dict[tuple[Any, ...], list[ScalingPoint]] = {}
    for row in rows:
        number, key = 0, _key(row)  # the number is part of the label from 1 on
        while any((other.ranks, other.nodes) == (row.ranks, row.nodes) for other in groups.get((*key, number), ())):
            number += 1  # runs that differ in what is no column, such as the hardware
        groups.setdefault((*key, number), []).append(row)
    served = {(row.baseline_strategy, row.baseline_ranks) for row in rows if row.strategy != row.baseline_strategy}
    kept = {key: own for key, own in groups.items() if len(own) > 1 or (own[0].strategy, own[0].ranks) not in served}
    groups = kept or groups
    names = labels(list(groups))
    return [
        Series(label, tuple(sorted(own, key=lambda row: (row.ranks, row.nodes or 0))), colour(index), marker(index))
        for index, (label, own) in enumerate(zip(names, groups.values(), strict=True))
    ]


def _key(row: ScalingPoint) -> tuple[Any, ...]:
    batch = row.global_batch if row.scaling == "strong" else row.batch_per_rank
    return (row.strategy, row.engine, row.model, row.data, row.scaling, "" if batch is None else f"batch {batch:g}",
            f"from {row.baseline_strategy}", f"from {row.baseline_ranks}")  # fmt: skip


def labels(keys: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return a name for every key: its first item, and what else of it is needed to tell the keys apart."""
    chosen = [0]
    for index in range(1, len(keys[0]) if keys else 0):
        told = len({tuple(key[one] for one in chosen) for key in keys})
        if len({tuple(key[one] for one in (*chosen, index)) for key in keys}) > told:
            chosen.append(index)
    named = [", ".join(str(key[index]) for index in chosen if key[index] not in ("", 0)) for key in keys]
    shortened = [short(name) for name in named]
    return [name or "measured" for name in (shortened if len(set(shortened)) == len(set(named)) else named)]


def speedup(series: Sequence[Series]) -> Plot:
    """Return speedup against ranks, with an ideal line for every baseline."""
    figure, [axes] = new_figure(height=_height(series))
    ends = []
    for one in series:
        ends.append(_line(axes, one, "speedup", anchor=1.0))
    ranks = [row.ranks for one in series for row in one.rows] + [one.origin[0] for one in series]
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
    else:
        axes.set_ylim(bottom=0)
    axes.set(ylabel="speedup", title=f"Speedup against {_against(series)}")
    label_ends(axes, ends)
    return Plot("speedup", axes.get_title("left"), _words("Speedup", series, "speedup", "{:.2f}"), figure)


def efficiency(series: Sequence[Series]) -> Plot:
    """Return efficiency against ranks."""
    figure, [axes] = new_figure(height=_height(series))
    ends = [_line(axes, one, "efficiency", anchor=1.0) for one in series]
    ranks_axis(axes, [row.ranks for one in series for row in one.rows] + [one.origin[0] for one in series])
    axes.axhline(1.0, color=GREY, ls="--", lw=1.2, zorder=1)
    axes.set_ylim(0, max(1.08, 1.05 * axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(ylabel="efficiency", title=f"Efficiency against {_against(series)}")
    label_ends(axes, [*ends, (axes.get_xlim()[1], 1.0, "ideal", GREY)])
    return Plot("efficiency", axes.get_title("left"), _words("Efficiency", series, "efficiency", "{:.1%}"), figure)


def throughput(series: Sequence[Series]) -> Plot | None:
    """Return samples per second against ranks, or None where nobody counted samples."""
    known = [one for one in series if all(row.throughput for row in one.rows)]
    if not known:
        return None
    figure, [axes] = new_figure(height=_height(known))
    ends = []
    for one in known:
        ends.append(_line(axes, one, "throughput"))
        first, last = one.rows[0], one.rows[-1]
        ideal = [(first.throughput or 0.0) * ranks / first.ranks for ranks in (first.ranks, last.ranks)]
        axes.plot([first.ranks, last.ranks], ideal, color=one.shade, ls=":", lw=1.1, alpha=0.8, zorder=1)
    ranks_axis(axes, [row.ranks for one in known for row in one.rows])
    if axes.get_xscale() == "log":
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set(ylabel="samples per second", title="Throughput (dotted: proportional to ranks)")
    label_ends(axes, ends)
    return Plot("throughput", "Throughput", _words("Samples per second", known, "throughput", "{:,.0f}"), figure)


def strategies(series: Sequence[Series]) -> Plot | None:
    """Return the throughput of strategies on equal rank counts, or None where fewer than two can be compared."""
    at: dict[tuple[Any, ...], list[tuple[Series, ScalingPoint]]] = {}
    for one in series:
        for row in one.rows:
            if row.throughput:
                at.setdefault((row.model, row.data, row.batch_per_rank, row.ranks), []).append((one, row))
    groups = [sorted(found, key=lambda pair: -(pair[1].throughput or 0.0)) for _, found in sorted(at.items(), key=str)
              if len({(row.strategy, row.engine) for _, row in found}) > 1]  # fmt: skip
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
            axes.annotate(f"{count(value)}  ({value / best:.0%})", (value, place), xytext=(4, 0),
                          textcoords="offset points", va="center", fontsize=9)  # fmt: skip
            ticks.append((place, f"{one.label}, {row.ranks} rank{'s' if row.ranks > 1 else ''}"))
            place += 1
        place += 0.6
    axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks])
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set(xlabel="samples per second (in brackets: of the best on as many ranks)", title="Strategies compared")
    words = "; ".join(f"{found[0][1].ranks} ranks: " + ", ".join(f"{one.label} {count(row.throughput or 0)}"
                      for one, row in found) for found in groups)  # fmt: skip
    return Plot("strategies", "Strategies compared", f"Samples per second of every strategy. {words}.", figure)


def _height(series: Sequence[Series]) -> float:
    """Inches that the names of all lines and the ideal ones need."""
    return max(4.3, 1.2 + 0.18 * (len(series) + len({one.origin for one in series})))


def _against(series: Sequence[Series]) -> str:
    origins = {one.origin for one in series}
    if len(origins) > 1:
        return "each line's own baseline"
    ranks, strategy = origins.pop()
    return f"{strategy + ' on ' if strategy else ''}{ranks} rank{'s' if ranks > 1 else ''}"


def _line(axes: Any, one: Series, quantity: str, anchor: float | None = None) -> tuple[float, float, str, str]:
    """Draw a line with its intervals, from its baseline on where that is another strategy's; returns its end."""
    x = [row.ranks for row in one.rows]
    y = [float(getattr(row, quantity)) for row in one.rows]
    bars = [_interval(row, quantity, value) for row, value in zip(one.rows, y, strict=True)]
    below, above = [value[0] for value in bars], [value[1] for value in bars]
    axes.errorbar(x, y, yerr=[below, above], color=one.shade, marker=one.sign, capsize=5, elinewidth=1.2, zorder=3)
    if anchor is not None and one.origin[0] < x[0]:
        axes.plot([one.origin[0], x[0]], [anchor, y[0]], color=one.shade, lw=1.2, ls=(0, (4, 2)), zorder=2)
    return x[-1], y[-1], one.label, one.shade


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
