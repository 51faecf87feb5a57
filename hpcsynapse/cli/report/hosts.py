"""`hpcsynapse report hosts`: hosts that have been slow."""

from __future__ import annotations

import click

from hpcsynapse.cli.bars import reading
from hpcsynapse.cli.options import runs_option
from hpcsynapse.cli.report.runs import RUNS, sources_of
from hpcsynapse.cli.report.stragglers import NOTHING
from hpcsynapse.cli.tables import Output, table_options
from hpcsynapse.runs.find import runs_folder


@click.command()
@click.argument("names", metavar=f"[{RUNS}]", nargs=-1)
@runs_option
@table_options
def command(names: tuple[str, ...], runs: str | None, output: Output) -> None:
    """Report the hosts of these runs, else of all runs of the last 30 days, and which the next job should leave out.

    `hpcsynapse submit --exclude-slow` leaves these out.
    """
    from hpcsynapse.report import hosts

    sources = sources_of(names, runs)[0] if names else hosts.runs_of(runs_folder(runs))
    with reading():
        rows = hosts.host_times(sources)
    if not rows:
        click.echo(NOTHING, err=True)
    output.table(rows, hosts.COLUMNS)
