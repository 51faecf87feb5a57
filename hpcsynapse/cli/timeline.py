"""`hpcsynapse timeline`: all ranks of a run on one time axis, for viewers of traces."""

from __future__ import annotations

from pathlib import Path

import click

from hpcsynapse.cli.bars import working
from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.find import runs_folder
from hpcsynapse.units import parse_numbers, parse_range


@click.command()
@click.argument("name", metavar="RUN")
@runs_option
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="FILE.pftrace or FILE.json, with .gz behind it or not  [default: RUN.pftrace.gz]",
)
@click.option("--steps", metavar="FIRST-LAST", help="these steps alone, with all of their phases where they are few")
@click.option("--ranks", metavar="N,N-N,...", help="these ranks alone, and all servers")
@click.option("--profiles", is_flag=True, help="add what the trainer traced with torch.profiler (--profile-steps)")
@click.option(
    "--merge",
    metavar="FILE",
    multiple=True,
    help="add a trace of torch.profiler or a timeline of Horovod; may be repeated",
)
def command(
    name: str,
    runs: str | None,
    output: str | None,
    steps: str | None,
    ranks: str | None,
    profiles: bool,
    merge: tuple[str, ...],
) -> None:
    """Write all ranks, servers and nodes of a run as a trace: steps, phases, pauses, states, telemetry, first failure.

    Open it in ui.perfetto.dev; for chrome://tracing write FILE.json. The clocks of nodes are corrected where that is
    possible, and it is said how well.
    """
    from hpcsynapse.report.loading import find_records
    from hpcsynapse.report.timeline import View, write_timeline
    from hpcsynapse.runs.directory import RunDirectory

    view = View(
        steps=parse_range("--steps", steps) if steps is not None else None,
        ranks=parse_numbers("--ranks", ranks) if ranks is not None else None,
        merged=[Path(path) for path in merge],
        profiles=profiles,
    )
    source = find_records(runs_folder(runs), name)
    own = source.name if isinstance(source, RunDirectory) else source.resolve().name
    target = Path(output or f"{own}.pftrace.gz")
    told = list[str]()
    try:
        with working(f"writing {target.name}") as progress:
            count = write_timeline(source, target, view, progress, told.append)
    except OSError as error:
        raise SpecError(f"{target} cannot be written: {error.strerror or error}") from None
    click.echo(f"{target}: {count} events; open it in ui.perfetto.dev")
    for text in told:
        click.echo(f"times: {text}", err=True)
