"""`hpcsynapse timeline`: all ranks of a run on one time axis, for viewers of traces."""

from __future__ import annotations

import re
from pathlib import Path

import click

from hpcsynapse.cli.bars import working
from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.find import runs_folder

_RANGE = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?")
_MOST_RANKS = 1_000_000


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
@click.option(
    "--merge",
    metavar="FILE",
    multiple=True,
    help="add a trace of torch.profiler or a timeline of Horovod; may be repeated",
)
def command(
    name: str, runs: str | None, output: str | None, steps: str | None, ranks: str | None, merge: tuple[str, ...]
) -> None:
    """Write all ranks, servers and nodes of a run as a trace: steps, phases, pauses, states, telemetry, first failure.

    Open it in ui.perfetto.dev; for chrome://tracing write FILE.json. The clocks of nodes are corrected where that is
    possible, and it is said how well.
    """
    from hpcsynapse.report.loading import find_records
    from hpcsynapse.report.timeline import View, write_timeline
    from hpcsynapse.runs.directory import RunDirectory

    view = View(steps=_steps(steps), ranks=_ranks(ranks), merged=[Path(path) for path in merge])
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


def _steps(text: str | None) -> tuple[int, int] | None:
    return None if text is None else _range("--steps", text)


def _ranks(text: str | None) -> frozenset[int] | None:
    if text is None:
        return None
    found = set[int]()
    for part in text.split(","):
        first, last = _range("--ranks", part)
        if last >= _MOST_RANKS:
            raise SpecError(f"--ranks {text}: a number of a rank is below {_MOST_RANKS}")
        found.update(range(first, last + 1))
    return frozenset(found)


def _range(option: str, text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text.strip())
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise SpecError(f"{option} {text}: write a number, or the first and the last one, as 100-200")
    return int(match[1]), int(match[2] or match[1])
