"""`hpcsynapse remove`."""

from __future__ import annotations

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.runs.find import runs_folder


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN|STUDY...")
@click.option("--yes", is_flag=True, help="do not ask")
@runs_option
def command(names: tuple[str, ...], yes: bool, runs: str | None) -> None:
    """Remove runs and studies that have ended: records, checkpoints, logs, all of it.

    Nothing is removed where one of them goes on, or where the queue does not say that it has ended.
    """
    from hpcsynapse.runs.removal import remove_folder
    from hpcsynapse.study.folder import StudyDirectory, find_run, find_runs
    from hpcsynapse.submission.remove import refuse_unended
    from hpcsynapse.units import counted

    folder = runs_folder(runs)
    meant = find_runs(folder, names)
    refuse_unended(meant)
    places = {
        study.path if (study := StudyDirectory.at(folder, name)) else find_run(folder, name).path for name in names
    }
    if not yes:
        click.confirm(f"remove {counted(len(meant), 'run')} for good?", abort=True)
    for place in sorted(places):
        remove_folder(place)
        click.echo(f"removed: {place}")
