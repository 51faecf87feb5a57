"""`hpcsynapse report against`: the scaling report with published figures beside it."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from hpcsynapse.cli.report.runs import scaling_options, scaling_report
from hpcsynapse.cli.tables import Output, table_options


@click.command()
@click.argument("name")
@partial(scaling_options, required=False)
@table_options
def command(name: str, names: tuple[str, ...], runs: str | None, output: Output, **how: Any) -> None:
    """Report how runs scaled with published figures beside them, which are cited on standard error.

    NAME is bk-synapse, minotauro, brain-imaging, horovod, goyal, tensorflow, bugliarello or dlperf. Names of runs may
    be left out.
    """
    from hpcsynapse.report.published import COLUMNS, own, published

    citation, points = published(name)
    report = scaling_report(names, runs, **how) if names else None
    click.echo(f"published: {citation}", err=True)
    output.table([*own(report.points if report else ()), *points], COLUMNS)
