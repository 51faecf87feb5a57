"""`hpcsynapse report traffic`: bytes that every node sent and received."""

from __future__ import annotations

import click

from hpcsynapse.cli.report.runs import runs_argument, sources_of
from hpcsynapse.cli.tables import Output, table_options


@click.command()
@runs_argument
@table_options
def command(names: tuple[str, ...], runs: str | None, output: Output) -> None:
    """Report the bytes that ranks and parameter servers of every node sent and received."""
    sources, _ = sources_of(names, runs)
    from hpcsynapse.report.traffic import COLUMNS, traffic

    output.table(traffic(sources), COLUMNS)
