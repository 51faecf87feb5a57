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
from hpcsynapse.report import points, stragglers, why_text
from hpcsynapse.report.measured import caveats, how_measured
from hpcsynapse.report.plots.style import Plot, to_svg
from hpcsynapse.report.scaling import Report
from hpcsynapse.report.stragglers import RankTime
from hpcsynapse.report.varied import apart, spread
from hpcsynapse.report.why import PARTS, Loss
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.verdict import verdict
from hpcsynapse.table import Columns
from hpcsynapse.templating import builtin_templates
from hpcsynapse.writers import filled, folded

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


def page(
    title: str,
    report: Report,
    losses: Sequence[Loss],
    ranks: Sequence[RankTime],
    plots: Sequence[Plot],
    narrow: Sequence[Plot] = (),
) -> str:
    """Return the page of a report: summary, tables, plots with what they show in words, and what the words mean.

    `narrow` are the same plots for a screen that is too narrow for them; without them these are made smaller.
    Every value is escaped: names come from records, which are from outside.
    """
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(builtin_templates()),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    slow = [one for one in ranks if one.slow]
    return engine.get_template("report/page.html.j2").render(
        title=title,
        version=__version__,
        report=report,
        summary=summary(report),
        caveats=caveats(report.points),
        measured=how_measured(report),
        scaling=_table(
            "scaling-table", "Speedup and efficiency, 95 % intervals in brackets", report.points, points.COLUMNS, True
        ),
        why=[
            _table(f"why-{number}", f"{why_text.title(loss)}: {why_text.left(loss)}", *why_text.table_of(loss))
            for number, loss in enumerate(losses, 1)
        ],
        parts=PARTS,
        verdicts=_verdicts(report),
        compared=len({one.run for one in ranks}),
        slow=_table("slow-table", "Slow ranks of all runs", slow, stragglers.COLUMNS) if slow else None,
        figures=[(plot, [svg(one, name) for one, name in forms]) for plot, *forms in _forms(plots, narrow)],
        columns=points.COLUMNS,
        flags=points.FLAGS,
    )


def summary(report: Report) -> list[str]:
    """Return a sentence for the largest number of ranks of every strategy, and of settings that divide it."""
    last: dict[tuple[Any, ...], points.ScalingPoint] = {}
    rows = [row for row in report.points if row.ranks != row.baseline_ranks]
    divided = apart(((_subject(row), row.batch_per_rank, row.ranks, row.nodes), row.settings) for row in rows)
    for row in rows:
        last[(*_subject(row), row.scaling, row.settings if divided else "")] = row
    found = []
    for row in last.values():
        name = ", ".join(part for part in (*_subject(row), row.settings if divided else "") if part)
        low, high = row.efficiency_low, row.efficiency_high
        sure = "" if low is None or high is None else f" (95 % interval {low:.1%} to {high:.1%})"
        found.append(
            f"{name or 'Measured'}: {row.speedup:.2f} times as fast on {row.ranks} ranks as on {row.baseline_ranks}, "
            f"efficiency {row.efficiency:.1%}{sure}, {row.scaling} scaling."
        )
    return found


def _verdicts(report: Report) -> list[tuple[str, list[str]]]:
    """Return what is to be said of every run whose nodes recorded their load."""
    runs = {
        one.run.about.name: one.run.source
        for every in report.compared
        for point in every.points
        for one in point.repeats
    }
    told = [(name, verdict(run)) for name, run in runs.items() if isinstance(run, RunDirectory)]
    return [(name, lines) for name, lines in told if lines]


def _subject(row: points.ScalingPoint) -> tuple[str, ...]:
    return row.strategy, row.engine, row.model, row.data


def _table(name: str, caption: str, rows: Sequence[Any], known: Columns, fold: bool = False) -> Table:
    """Return a table, folded: what is the same in all rows is said in its caption."""
    rows, known = spread(rows, known)
    shown, cells, same = folded(rows, known) if fold else (*filled(rows, known), "")
    return Table(
        name=name,
        caption=f"{caption}{f'. In all rows: {same}' if same else ''}",
        headings=[one.head for one in shown],
        rows=[list(map(str, line)) for line in cells],
        right=[one.unit.right for one in shown],
    )


def _forms(plots: Sequence[Plot], narrow: Sequence[Plot]) -> list[tuple[Any, ...]]:
    """Return every plot with its drawings and the names of these: that of a page, and one for narrow screens."""
    small = {plot.name: plot for plot in narrow}
    return [
        (plot, (plot, plot.name), *([(small[plot.name], f"{plot.name}-narrow")] if plot.name in small else []))
        for plot in plots
    ]


def svg(plot: Plot, name: str) -> Markup:
    """Return a plot to stand inside a page: described, with ids that begin with its name, as wide as its place."""
    text = _LEFT_OUT.sub("", _PROLOG.sub("", to_svg(plot)))
    text = _ID.sub(lambda match: f"{match[1]}{name}-{match[2]}", text)
    ids = f"{name}-title {name}-text"
    head = f'<title id="{name}-title">{escape(plot.title)}</title><desc id="{name}-text">{escape(plot.text)}</desc>'
    text = text.replace("<svg ", f'<svg role="img" aria-labelledby="{ids}" ', 1)
    end = text.index(">") + 1
    return Markup(text[:end] + head + text[end:])  # noqa: S704  matplotlib's own, and escaped above
