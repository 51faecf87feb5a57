"""`hpcsynapse cancel`."""

from __future__ import annotations

import click

from hpcsynapse.cli.options import runs_option


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN...")
@runs_option
def command(names: tuple[str, ...], runs: str | None) -> None:
    """Tell the queue to end runs now; `stop` is gentler and saves a checkpoint."""
    from hpcsynapse import submission
    from hpcsynapse.rundir import FINAL_STATES, RunDirectory
    from hpcsynapse.status import request_cancel, statuses

    folder = submission.runs_folder(runs)
    for run in [RunDirectory.find(folder, name) for name in names]:
        state = statuses([run])[0].state
        if state in FINAL_STATES:
            click.echo(f"run {run.name} has ended already: {state}")
            continue
        request_cancel(run)
        click.echo(f"run {run.name}: the queue was told to end it")
