"""`hpcsynapse report stragglers`: every rank's time before the collective."""

from __future__ import annotations

import click

from hpcsynapse.cli.bars import reading
from hpcsynapse.cli.report.runs import runs_argument, sources_of
from hpcsynapse.cli.tables import Output, table_options

NOTHING = "no run has ranks that can be compared with one another"


@click.command()
@runs_argument
@table_options
def command(names: tuple[str, ...], runs: str | None, output: Output) -> None:
    """Report every rank's time before the collective, and which ranks are slow."""
    sources, _ = sources_of(names, runs)
    from hpcsynapse.report import stragglers
    from hpcsynapse.report.loading import load

    with reading():
        loaded = [load(run) for run in sources]
    for text in (text for run in loaded for text in stragglers.without_phases(run)):
        click.echo(text, err=True)
    rows = [one for run in loaded for one in stragglers.rank_times(run)]
    if not rows:
        click.echo(NOTHING, err=True)
    output.table(rows, stragglers.COLUMNS)
