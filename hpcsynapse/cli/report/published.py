"""`hpcsynapse report published`: tables in the forms of published ones."""

from __future__ import annotations

from typing import Any

import click

from hpcsynapse.cli.report.runs import scaling_options, scaling_report
from hpcsynapse.cli.tables import Output, table_options


@click.command()
@click.argument("kind", type=click.Choice(["batch", "modes", "models"]))
@scaling_options
@table_options
def command(kind: str, names: tuple[str, ...], runs: str | None, output: Output, **how: Any) -> None:
    """Report in the form of a published table.

    \b
    batch    training time by batch (rows) and set-up, nodes x ranks on each (columns)
    modes    steps/s, batch, error and hours by strategy
    models   images/s and speedup by model, strategy and ranks
    """
    report = scaling_report(names, runs, **how)
    from hpcsynapse.report.publication import TABLES

    output.table(*TABLES[kind](report.points))
