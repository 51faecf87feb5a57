"""`hpcsynapse stop`."""

from __future__ import annotations

import click

from hpcsynapse.cli.options import runs_option


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
        click.echo(f"run {run.name} will stop after its step")
