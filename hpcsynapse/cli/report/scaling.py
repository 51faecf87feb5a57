"""`hpcsynapse report [scaling]`: speedup and efficiency of runs, or of a table of measured figures; plots, a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.cli.report.runs import scaling_options, scaling_report
from hpcsynapse.cli.tables import Output, table_options, write
from hpcsynapse.errors import SpecError

if TYPE_CHECKING:
    from hpcsynapse.report.scaling import Report
    from hpcsynapse.report.why import Loss


@click.command()
@scaling_options
@click.option("--plots", metavar="DIR", help="also draw all plots that the runs allow, as PDF, PNG and SVG")
@click.option(
    "--fit",
    type=click.Choice(["page", "two-columns", "one-column"]),
    default="page",
    show_default=True,
    help="what --plots is for: a page or slides, or one (8.5 cm) or two columns (17.8 cm) of a paper, without titles",
)
@click.option("--html", metavar="FILE", help="also write table, plots, why and slow ranks as one self-contained page")
@table_options
def command(
    names: tuple[str, ...], runs: str | None, plots: str | None, fit: str, html: str | None, output: Output, **how: Any
) -> None:
    """Report how well runs scaled: step time, throughput, speedup and efficiency.

    RUN is the name or folder of a run, or a folder of record files; STUDY stands for all of its runs that have
    finished. TABLE.csv holds figures measured elsewhere: columns ranks or gpus, nodes, one of epoch_time_s,
    train_time_h, steps_per_s, images_per_s; optional strategy, batch, model.
    """
    if fit != "page" and not plots:
        raise SpecError(f"--fit {fit} is for the files of --plots DIR; give that too")
    if html and Path(html).suffix.lower() not in (".html", ".htm", ".xhtml"):
        raise SpecError(f"--html {html}: the page is HTML; call it {Path(html).with_suffix('.html')}")
    report = scaling_report(names, runs, **how)
    from hpcsynapse.report.points import COLUMNS

    if plots or html:
        _draw(report, names, plots, html, fit, how["baseline"] is not None)
    output.table(report.points, COLUMNS)
    for hint in report.hints if output.form is None else ():
        click.echo(f"hint: {hint}", err=True)


def _draw(
    report: Report, names: Sequence[str], plots: str | None, html: str | None, fit: str, from_baseline: bool
) -> None:
    """Draw the plots of a report; write them as files, and the page with them."""
    from hpcsynapse.report.why import losses

    try:
        from hpcsynapse.report.plots.draw import draw
        from hpcsynapse.report.plots.draw import write as write_plots
        from hpcsynapse.report.plots.style import FITS
    except ImportError as error:
        raise SpecError(f"plots need matplotlib ({error}); pip install 'hpcsynapse[report]'") from None
    lost = losses(report.compared, from_baseline)
    if plots:
        try:
            written = write_plots(draw(report, lost, FITS[fit]), Path(plots))
        except OSError as error:
            raise SpecError(f"--plots {plots}: {error.strerror or error}") from None
        click.echo(f"drawn: {', '.join(path.name for path in written)} in {plots}", err=True)
    if html:
        _write_page(report, names, lost, Path(html))


def _write_page(report: Report, names: Sequence[str], lost: Sequence[Loss], path: Path) -> None:
    from hpcsynapse.report.measured import title_of
    from hpcsynapse.report.page import page
    from hpcsynapse.report.plots.draw import draw
    from hpcsynapse.report.plots.style import NARROW
    from hpcsynapse.report.stragglers import rank_times

    ranks = [
        one
        for every in report.compared
        for point in every.points
        for measured in point.repeats
        for one in rank_times(measured.run)
    ]
    drawn = draw(report, lost), draw(report, lost, NARROW)
    write(path, page(title_of(names), report, lost, ranks, *drawn), "--html")
    click.echo(f"page: {path}", err=True)
