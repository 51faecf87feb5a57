"""`hpcsynapse render`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcsynapse.cli.options import SectionedCommand, description_options, load_description
from hpcsynapse.runs.find import runs_folder


@click.command(cls=SectionedCommand)
@click.option("--out", metavar="DIR", help="write job file and run.toml into this new folder instead of stdout")
@description_options
def command(out: str | None, **given: Any) -> None:
    """Print the job file that submit would hand to the queue; nothing is submitted.

    What checks find is said on stderr; a job file is printed all the same.
    """
    from hpcsynapse.submission.prepare import prepare, told

    folder = Path(out).resolve() if out else None
    runs = folder.parent if folder else runs_folder(given["runs"])
    prepared = prepare(load_description(given), runs, name=folder.name if folder else None)
    text = prepared.job_file
    for line in told(prepared.findings, ("warning", "error")):
        click.echo(f"hpcsynapse: {line}", err=True)
    click.echo(str(prepared.write()[1]) if folder else text, nl=folder is not None)
