"""`hpcsynapse status`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcsynapse.cli.options import form_options, runs_option
from hpcsynapse.runs.find import runs_folder
from hpcsynapse.writers import json_text

if TYPE_CHECKING:
    from hpcsynapse.submission.status import RunStatus

_PROGRESS = ("epoch", "epochs", "step", "steps", "samples_per_s", "loss", "eta_s")


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN|STUDY ...]")
@click.option("--running", is_flag=True, help="only what has not ended")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="only the N newest")
@runs_option
@form_options("csv", "json", csv="print one row a run as CSV", json="print everything known as JSON")
def command(names: tuple[str, ...], running: bool, last: int | None, runs: str | None, form: str | None) -> None:
    """Show state and progress of the runs named, or of all; each queue is asked once.

    What runs comes first, then what waits, then what has ended, the newest first. The name of a study stands for its
    runs; without names a study is one line. NODES are nodes x ranks on each; SINCE is when a run ended, else when it
    began or was queued; RATE counts the samples of all ranks.
    """
    from hpcsynapse.cli.terminal import width

    folder = runs_folder(runs)
    found, lines = _looked_at(folder, names, running, last)
    if form == "json":
        click.echo(json_text([_plain(status) for status in found]), nl=False)
    elif form == "csv":
        _write_csv(found)
    elif lines:
        from hpcsynapse.cli import run_table

        click.echo(run_table.text(lines, width()), nl=False)
        if names:
            _explain(found)
    else:
        click.echo(f"no runs {'that have not ended ' if running else ''}in {folder}", err=True)


def _looked_at(
    folder: Path, names: Sequence[str], running: bool, last: int | None
) -> tuple[list[RunStatus], list[Any]]:
    """Return the runs that are meant and the lines of the table."""
    from hpcsynapse.cli.run_table import run_line, study_line
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.runs.states import FINAL_STATES
    from hpcsynapse.study.folder import StudyDirectory, find_runs
    from hpcsynapse.submission.status import statuses

    studies = [] if names else list(StudyDirectory.all(folder))
    groups: list[tuple[StudyDirectory | None, list[RunDirectory]]] = [(study, study.runs()) for study in studies]
    groups += [(None, [run]) for run in (find_runs(folder, names) if names else RunDirectory.all(folder))]
    results = iter(statuses([run for _, members in groups for run in members]))
    told = []
    for study, members in groups:
        found = [next(results) for _ in members]
        line = run_line(members[0], found[0]) if study is None else study_line(study.name, study.size, found)
        if not running or line.state not in FINAL_STATES:
            told.append((found, line))
    if last is not None:
        told = sorted(told, key=lambda one: one[1].order[1])[:last]
    return [status for found, _ in told for status in found], [line for _, line in told]


def _plain(status: RunStatus) -> dict[str, Any]:
    """Return all that is known; epochs count from 1, as in the table."""
    from hpcsynapse.submission.status import epoch_at_work

    known = status.to_dict()
    told = known["progress"]
    if isinstance(told.get("epoch"), (int, float)) and told.get("epochs"):
        told["epoch"] = epoch_at_work(told)
    return known


def _write_csv(found: Sequence[RunStatus]) -> None:
    from hpcsynapse.submission.status import RunStatus

    columns = [item.name for item in fields(RunStatus) if item.name not in ("progress", "failure")]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*columns, *_PROGRESS, "accuracy"])
    for status in found:
        known = _plain(status)
        metrics = known["progress"].get("metrics")
        accuracy = metrics.get("accuracy", "") if isinstance(metrics, dict) else ""
        told = [known["progress"].get(name, "") for name in _PROGRESS]
        writer.writerow([*(known[name] for name in columns), *told, accuracy])


def _explain(found: Sequence[RunStatus]) -> None:
    """Print in full why runs are as they are, and where to read on."""
    from hpcsynapse.cli.progress import print_failure, what_next
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.runs.states import FINAL_STATES, RunState

    for status in found:
        print_failure(status)
        if status.state in (RunState.FAILED, RunState.LOST):
            click.echo(
                f"{status.name}: {status.reason}\nsee: {what_next(RunDirectory(Path(status.path)), status)}", err=True
            )
    if len(found) == 1 and found[0].state in FINAL_STATES:
        from hpcsynapse.runs.verdict import verdict

        for line in verdict(RunDirectory(Path(found[0].path))):
            click.echo(f"- {line}")
