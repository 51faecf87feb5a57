"""`hpcsynapse report confusion`: which classes a model takes for which, and the error of each."""

from __future__ import annotations

from pathlib import Path

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.cli.report.runs import RUNS, sources_of
from hpcsynapse.cli.tables import Output, table_options
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.class_counts import ClassCounts
from hpcsynapse.runs.directory import RunDirectory


@click.command()
@click.argument("names", metavar=f"[{RUNS}]", nargs=-1)
@click.option(
    "--against", metavar="NAME", help="a published confusion matrix below, or alone; an unknown NAME lists them"
)
@click.option("--plots", metavar="DIR", help="also draw it, of the last one, as PNG and SVG")
@runs_option
@table_options
def command(names: tuple[str, ...], runs: str | None, against: str | None, plots: str | None, output: Output) -> None:
    """Report error, precision, recall and F1 of every class, as the newest validation counted them.

    Up to 20 classes the confusion matrix stands before them: a row is what was predicted, its columns what was true.
    """
    if not names and against is None:
        raise click.UsageError(f"Missing argument '{RUNS}'.")
    from hpcsynapse.report import confusion, published

    sources = sources_of(names, runs)[0] if names else []
    found = [(run.name, confusion.counts_of(run)) for run in sources if isinstance(run, RunDirectory)]
    if len(found) < len(sources):
        raise SpecError("a folder of step records has no counts by class; give the run")
    if against is not None:
        citation, counts = published.confusion(against)
        click.echo(f"published: {citation}", err=True)
        found.append((against, counts))
    rows = confusion.confusion(found)
    output.table(rows, confusion.columns_of(rows))
    if plots:
        _draw(Path(plots), *found[-1])


def _draw(folder: Path, name: str, counts: ClassCounts) -> None:
    try:
        from hpcsynapse.report.plots import classes, draw
        from hpcsynapse.report.plots.style import settle, style
    except ImportError as error:
        raise SpecError(f"plots need matplotlib ({error}); pip install 'hpcsynapse[report]'") from None
    with style():
        plot = classes.confusion(name, counts)
        settle(plot.figure)
    try:
        written = draw.write([plot], folder)
    except OSError as error:
        raise SpecError(f"--plots {folder}: {error.strerror or error}") from None
    click.echo(f"drawn: {', '.join(path.name for path in written)} in {folder}", err=True)
