"""`hpcsynapse status`."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections import Counter
from dataclasses import fields

import click

from hpcsynapse.cli.options import runs_option


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN|STUDY ...]")
@runs_option
@click.option("--json", "as_json", is_flag=True, help="print everything known as JSON")
@click.option("--csv", "as_csv", is_flag=True, help="print one row a run as CSV")
def command(names: tuple[str, ...], runs: str | None, as_json: bool, as_csv: bool) -> None:
    """Show state and progress of the runs named, or of all; each queue is asked once.

    The name of a study stands for its runs; without names a study is one line.
    """
    from hpcsynapse import submission
    from hpcsynapse.cli.progress import describe, print_failure
    from hpcsynapse.rundir import RunDirectory
    from hpcsynapse.status import RunStatus, statuses
    from hpcsynapse.study.folder import StudyDirectory, find_runs

    folder = submission.runs_folder(runs)
    found = find_runs(folder, names) if names else list(RunDirectory.all(folder))
    studies = [] if names else [(study, study.runs()) for study in StudyDirectory.all(folder)]
    results = statuses([*found, *itertools.chain(*(members for _, members in studies))])
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
    elif not found and not studies:
        click.echo(f"no runs in {folder}", err=True)
    else:
        width = max(map(len, [*(run.name for run in found), *(study.name for study, _ in studies)]))
        for status in results[: len(found)]:
            click.echo(f"{status.name:<{width}}  {describe(status)}")
            if names:
                print_failure(status)
        parts = iter(results[len(found) :])
        for study, members in studies:
            states = Counter(status.state for status in itertools.islice(parts, len(members)))
            told = "  ".join(f"{count} {state}" for state, count in states.items())
            click.echo(f"{study.name:<{width}}  study of {study.size} runs  {told}".rstrip())
