"""`hpcsynapse cancel`."""

from __future__ import annotations

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.runs.find import runs_folder


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN|STUDY...")
@runs_option
def command(names: tuple[str, ...], runs: str | None) -> None:
    """Tell the queue to end runs now; `stop` is gentler and saves a checkpoint."""
    from hpcsynapse.runs.states import FINAL_STATES
    from hpcsynapse.study.folder import find_runs
    from hpcsynapse.submission.cancel import request_cancel
    from hpcsynapse.submission.status import statuses

    folder = runs_folder(runs)
    for run in reversed(find_runs(folder, names)):  # the last first: others of a study wait for those before them
        state = statuses([run])[0].state
        if state in FINAL_STATES:
            click.echo(f"run {run.name} has ended already: {state}")
            continue
        request_cancel(run)
        click.echo(f"run {run.name}: the queue was told to end it")
