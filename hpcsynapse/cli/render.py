"""`hpcsynapse render`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hpcsynapse.cli.options import SectionedCommand, description_options, load_description


@click.command(cls=SectionedCommand)
@click.option("--out", metavar="DIR", help="write job file and run.toml into this new folder instead of stdout")
@description_options
def command(out: str | None, **given: Any) -> None:
    """Print the job file that submit would hand to the queue; nothing is submitted."""
    from hpcsynapse import render, submission

    runs = submission.runs_folder(given["runs"])
    spec = submission.resolve(load_description(given), runs)
    if out is None:
        click.echo(render.render(spec, runs / str(spec.name)), nl=False)
        return
    folder = Path(out).resolve()
    _, script = submission.write_run(replace(spec, name=folder.name), folder)
    click.echo(str(script))
