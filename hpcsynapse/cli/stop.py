"""`hpcsynapse stop`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import SpecError

if TYPE_CHECKING:
    from hpcsynapse.rundir import RunDirectory


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN...")
@runs_option
def command(names: tuple[str, ...], runs: str | None) -> None:
    """Ask runs to finish their step, save a checkpoint and end."""
    from hpcsynapse import submission
    from hpcsynapse.rundir import FINAL_STATES, RunDirectory
    from hpcsynapse.status import statuses

    folder = submission.runs_folder(runs)
    for run in [RunDirectory.find(folder, name) for name in names]:
        state = statuses([run])[0].state
        if state in FINAL_STATES:
            click.echo(f"run {run.name} has ended already: {state}")
            continue
        run.request_stop("stopped by user")
        if _own_program(run):
            click.echo(f"run {run.name}: its program is asked to stop by the file {run.stop}, if it looks for it")
        else:
            click.echo(f"run {run.name} will stop after its step")


def _own_program(run: RunDirectory) -> bool:
    with suppress(SpecError):
        return bool(run.load_spec().command)
    return False
