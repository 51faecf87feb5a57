"""`hpcsynapse report utilisation`: what nodes used and exchanged, and where their hours went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from hpcsynapse.cli.report.runs import runs_argument, sources_of, warn
from hpcsynapse.cli.tables import Output, table_options, terminal_width
from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.runs.directory import RunDirectory


@click.command()
@runs_argument
@click.option("--causes", "by_cause", is_flag=True, help="the node-hours by cause, in any form")
@click.option("--plots", metavar="DIR", help="also draw use and traffic over time, all runs on one axis")
@table_options
def command(names: tuple[str, ...], runs: str | None, by_cause: bool, plots: str | None, output: Output) -> None:
    """Report what every node used of cores, memory and GPUs, and exchanged over the network beside what the strategy
    must; then node-hours by cause, which add up to the allocation.

    \b
    hpcsynapse report utilisation STUDY
    hpcsynapse report utilisation ps-async allreduce --plots plots
    """
    sources, _ = sources_of(names, runs)
    found = [_directory(source) for source in sources]
    from hpcsynapse.report import node_hours, node_use
    from hpcsynapse.writers import to_text

    if plots:
        _draw(found, Path(plots))
    if by_cause:
        output.table(node_hours.causes(found), node_hours.COLUMNS)
        return
    used = node_use.node_use(found)
    if output.form is not None or output.names or output.path is not None:
        output.table(used, node_use.COLUMNS)
        return
    width = terminal_width()
    tables = [to_text(used, node_use.COLUMNS, width)]
    for run in found:
        try:
            tables.append(to_text(node_hours.causes([run]), node_hours.COLUMNS, width))
        except RecordError as error:
            warn(f"node-hours by cause: {error}")
    output.text("\n".join([*tables, *_verdicts(found)]))


def _directory(source: object) -> RunDirectory:
    if not isinstance(source, RunDirectory):
        raise SpecError(f"{source} is a folder of step records alone: what its nodes did is not known")
    return source


def _verdicts(runs: Sequence[RunDirectory]) -> list[str]:
    from hpcsynapse.runs.verdict import verdict

    told = [(run.name, verdict(run)) for run in runs]
    return ["".join([f"{name}:\n", *(f"- {line}\n" for line in lines)]) for name, lines in told if lines]


def _draw(runs: Sequence[RunDirectory], folder: Path) -> None:
    try:
        from hpcsynapse.report.plots.draw import write
        from hpcsynapse.report.plots.style import settle, style
        from hpcsynapse.report.plots.utilisation import utilisation
    except ImportError as error:
        raise SpecError(f"plots need matplotlib ({error}); pip install 'hpcsynapse[report]'") from None
    from hpcsynapse.report.node_tables import curves, node_tables

    with style():
        plot = utilisation([curve for run in runs for curve in curves(run.name, node_tables(run))])
        if plot is None:
            raise SpecError("--plots: the nodes of these runs have recorded nothing that could be drawn")
        settle(plot.figure)
    try:
        for path in write([plot], folder):
            click.echo(f"written: {path}", err=True)
    except OSError as error:
        raise SpecError(f"--plots {folder}: {error.strerror or error}") from None
