"""`hpcsynapse resume`."""

from __future__ import annotations

import click

from hpcsynapse.cli.options import json_option, runs_option
from hpcsynapse.runs.find import runs_folder


@click.command()
@click.argument("name", metavar="RUN|STUDY")
@click.option("-f", "--follow", is_flag=True, help="stay and show progress until it has ended")
@click.option("--time", metavar="TIME", help="another time limit from now on: 2h, 90m, 1-00:00:00")
@click.option("--exclude-failed", is_flag=True, help="leave out hosts that its earlier starts failed on twice")
@json_option("print run, job id and directory as JSON")
@runs_option
def command(name: str, follow: bool, time: str | None, exclude_failed: bool, as_json: bool, runs: str | None) -> None:
    """Queue a run that has ended once more, or make what a study lacks.

    \b
    hpcsynapse resume long                 a run: in its directory, from its newest checkpoint
    hpcsynapse resume long --time 4h       where the time limit has ended it
    hpcsynapse resume compared             a study: its runs that are missing or have not finished
    """
    from hpcsynapse.cli.submit import finish
    from hpcsynapse.errors import SpecError
    from hpcsynapse.study.folder import StudyDirectory, find_run
    from hpcsynapse.submission.submit import resubmit

    folder = runs_folder(runs)
    if StudyDirectory.at(folder, name) is None:
        finish(resubmit(find_run(folder, name), time, exclude_failed), follow, as_json)
        return
    if exclude_failed:
        raise SpecError(f"--exclude-failed is for a run; {name} is a study")
    if time is not None:
        raise SpecError(f"--time is for a run; {name} is a study, whose runs have the time limit of its description")
    from hpcsynapse.cli.study import command as study

    click.get_current_context().invoke(study, resume=name, follow=follow, as_json=as_json, runs=runs)
