"""`hpcsynapse status`."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import fields

import click

from hpcsynapse.cli.options import runs_option


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN ...]")
@runs_option
@click.option("--json", "as_json", is_flag=True, help="print everything known as JSON")
@click.option("--csv", "as_csv", is_flag=True, help="print one row a run as CSV")
def command(names: tuple[str, ...], runs: str | None, as_json: bool, as_csv: bool) -> None:
    """Show state and progress of the runs named, or of all; each queue is asked once."""
    from hpcsynapse import submission
    from hpcsynapse.cli.progress import describe, print_failure
    from hpcsynapse.rundir import RunDirectory
    from hpcsynapse.status import RunStatus, statuses

    folder = submission.runs_folder(runs)
    found = [RunDirectory.find(folder, name) for name in names] if names else list(RunDirectory.all(folder))
    results = statuses(found)
    if as_json:
        click.echo(json.dumps([status.to_dict() for status in results], indent=1))
    elif as_csv:
        columns = [item.name for item in fields(RunStatus) if item.name not in ("progress", "failure")]
        extra = ["epoch", "step", "steps", "samples_per_s", "loss"]
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns + extra)
        for status in results:
            known = status.to_dict()
            writer.writerow([known[name] for name in columns] + [status.progress.get(name, "") for name in extra])
    elif not results:
        click.echo(f"no runs in {folder}", err=True)
    else:
        width = max(len(status.name) for status in results)
        for status in results:
            click.echo(f"{status.name:<{width}}  {describe(status)}")
            if names:
                print_failure(status)
