"""`hpcsynapse timeline`: all ranks of a run on one time axis, for viewers of traces."""

from __future__ import annotations

from pathlib import Path

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.find import runs_folder


@click.command()
@click.argument("name", metavar="RUN")
@runs_option
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="FILE.pftrace or FILE.json, with .gz behind it or not  [default: RUN.pftrace.gz]",
)
def command(name: str, runs: str | None, output: str | None) -> None:
    """Write steps, phases, pauses and the first failure of all ranks as a trace.

    Open it in ui.perfetto.dev; for chrome://tracing write FILE.json. Times are those of each node's own clock.
    """
    from hpcsynapse.report.loading import find_records
    from hpcsynapse.report.timeline import write_timeline
    from hpcsynapse.runs.directory import RunDirectory

    source = find_records(runs_folder(runs), name)
    own = source.name if isinstance(source, RunDirectory) else source.resolve().name
    target = Path(output or f"{own}.pftrace.gz")
    try:
        count = write_timeline(source, target)
    except OSError as error:
        raise SpecError(f"{target} cannot be written: {error.strerror or error}") from None
    click.echo(f"{target}: {count} events; open it in ui.perfetto.dev")
