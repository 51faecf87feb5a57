"""`hpcsynapse report dual`: what the halves of dual nets did, beside other runs."""

from __future__ import annotations

import click

from hpcsynapse.cli.report.runs import runs_argument, sources_of
from hpcsynapse.cli.tables import Output, table_options
from hpcsynapse.runs.directory import RunDirectory


@click.command()
@runs_argument
@click.option("--memory-limit", metavar="SIZE", help="also the largest batches that fit this memory, e.g. 16G")
@table_options
def command(names: tuple[str, ...], runs: str | None, memory_limit: str | None, output: Output) -> None:
    """Report what the halves of dual nets (strategy admm) did, beside other runs."""
    from hpcsynapse.units import parse_mebibytes

    limit = None if memory_limit is None else parse_mebibytes(memory_limit) << 20
    sources, _ = sources_of(names, runs)
    from hpcsynapse.report.dual import COLUMNS, dual_report

    output.table(dual_report([run for run in sources if isinstance(run, RunDirectory)], limit), COLUMNS)
