"""A report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import jinja2
from markupsafe import Markup

from hpcsynapse import __version__
from hpcsynapse.render import builtin_templates
from hpcsynapse.report import points, why
from hpcsynapse.report.layouts import RANKS
from hpcsynapse.report.plots.style import Plot, to_svg
from hpcsynapse.report.scaling import Report
from hpcsynapse.report.stragglers import RankTime
from hpcsynapse.report.tables import SCALING, Layout, cells_of
from hpcsynapse.report.why import PARTS, Loss

_PROLOG = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_LEFT_OUT = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<style\b[^>]*>.*?</style>|<title>.*?</title>", re.DOTALL)
_ID = re.compile(r'(\bid="|href="#|url\(#)([^")]+)')


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page: its id and caption, headings, rows of cells, and which columns hold numbers."""

    name: str
    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[bool]


def page(title: str, report: Report, losses: Sequence[Loss], ranks: Sequence[RankTime], plots: Sequence[Plot]) -> str:
    """Return the page of a report: summary, tables, plots with what they show in words, and what the words mean.

    Every value is escaped: names come from records, which are from outside.
    """
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(builtin_templates()), undefined=jinja2.StrictUndefined, autoescape=True,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    slow = [one for one in ranks if one.slow]
    return engine.get_template("report/page.html.j2").render(
        title=title,
        version=__version__,
        report=report,
        summary=summary(report),
        scaling=_table(
            "scaling-table", "Speedup and efficiency, 95 % intervals in brackets", report.points, SCALING, True
        ),
        why=[_loss_table(number, loss) for number, loss in enumerate(losses, 1)],
        parts=PARTS,
        compared=len({one.run for one in ranks}),
        slow=_table("slow-table", "Slow ranks of all runs", slow, RANKS),
        figures=[(plot, svg(plot)) for plot in plots],
        columns=points.COLUMNS,
        flags=points.FLAGS,
    )


def summary(report: Report) -> list[str]:
    """Return a sentence for the largest number of ranks of every strategy."""
    last: dict[tuple[Any, ...], points.ScalingPoint] = {}
    for row in report.points:
        if row.ranks != row.baseline_ranks:
            last[(row.strategy, row.engine, row.model, row.data, row.scaling)] = row
    found = []
    for row in last.values():
        name = ", ".join(part for part in (row.strategy, row.engine, row.model, row.data) if part)
        low, high = row.efficiency_low, row.efficiency_high
        sure = "" if low is None or high is None else f" (95 % interval {low:.1%} to {high:.1%})"
        found.append(
            f"{name or 'Measured'}: {row.speedup:.2f} times as fast on {row.ranks} ranks as on {row.baseline_ranks}, "
            f"efficiency {row.efficiency:.1%}{sure}, {row.scaling} scaling."
        )
    return found


def _table(name: str, caption: str, rows: Sequence[Any], layout: Layout, fold: bool = False) -> Table | None:
    """Return a table, folded: what is the same in all rows is said in its caption."""
    if not rows:
        return None
    headings, cells, right = cells_of(rows, layout)
    columns = range(1, len(headings)) if fold and len(cells) > 1 else ()
    same = [index for index in columns if len({row[index] for row in cells}) == 1]
    kept = [index for index in range(len(headings)) if index not in same]
    alike = ", ".join(f"{headings[index]} {cells[0][index]}" for index in same)
    return Table(
        name=name,
        caption=f"{caption}{f'. In all rows: {alike}' if alike else ''}",
        headings=[headings[index] for index in kept],
        rows=[[row[index] for index in kept] for row in cells],
        right=[right[index] for index in kept],
    )


def _loss_table(number: int, loss: Loss) -> Table:
    headings, rows = why.cells_of(loss)
    caption = f"{why.title(loss)}: {why.left(loss)}"
    return Table(f"why-{number}", caption, headings, rows, [False] + [True] * (len(headings) - 1))


def svg(plot: Plot) -> Markup:
    """Return a plot to stand inside a page: named and described, with ids of its own, as wide as its place."""
    text = _LEFT_OUT.sub("", _PROLOG.sub("", to_svg(plot)))
    text = _ID.sub(lambda match: f"{match[1]}{plot.name}-{match[2]}", text)
    ids = f"{plot.name}-title {plot.name}-text"
    head = (f'<title id="{plot.name}-title">{escape(plot.title)}</title>'
            f'<desc id="{plot.name}-text">{escape(plot.text)}</desc>')  # fmt: skip
    text = text.replace("<svg ", f'<svg role="img" aria-labelledby="{ids}" ', 1)
    end = text.index(">") + 1
    return Markup(text[:end] + head + text[end:])  # noqa: S704  matplotlib's own, and escaped above
