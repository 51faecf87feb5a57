"""`hpcsynapse report lost`: where node-hours went, and what each interruption cost."""

from __future__ import annotations

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.cli.report.runs import RUNS, sources_of
from hpcsynapse.cli.tables import Output, table_options, terminal_width
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.directory import RunDirectory


@click.command()
@click.argument("names", metavar=RUNS, nargs=-1, required=True)
@runs_option
@click.option("--interruptions", is_flag=True, help="a row for every interruption, in any form")
@table_options
def command(names: tuple[str, ...], runs: str | None, interruptions: bool, output: Output) -> None:
    """Report where the node-hours of runs went, in parts that add up to what was allocated.

    Interruptions are listed below with what ended the run, the host, and the file that says so.
    """
    from hpcsynapse.report import interruptions as ends
    from hpcsynapse.report import lost_work
    from hpcsynapse.writers import to_text

    sources, _ = sources_of(names, runs)
    found = lost_work.lost_work(_directory(source) for source in sources)
    hours, ended = [one.hours for one in found], [row for one in found for row in one.interruptions]
    if interruptions:
        output.table(ended, ends.COLUMNS)
        return
    if output.form is not None or output.names:
        output.table(hours, lost_work.COLUMNS)
        return
    text = to_text(hours, lost_work.COLUMNS, terminal_width())
    output.text(f"{text}\n{to_text(ended, ends.COLUMNS, terminal_width())}" if ended else text)


def _directory(source: object) -> RunDirectory:
    if not isinstance(source, RunDirectory):
        raise SpecError(f"{source} is a folder of records alone: what a run lost is told from its run directory")
    return source
