"""`hpcsynapse logs`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import RunNotFoundError
from hpcsynapse.runs.find import runs_folder

if TYPE_CHECKING:
    from hpcsynapse.runs.directory import RunDirectory


@click.command()
@click.argument("name", metavar="[RUN]", required=False)
@click.option("-f", "--follow", is_flag=True, help="go on until the run has ended")
@click.option("--rank", type=click.IntRange(min=0), help="the log of this rank [rank 0 and the job script]")
@click.option("--failed", is_flag=True, help="the log of the rank that failed first")
@runs_option
def command(name: str | None, follow: bool, rank: int | None, failed: bool, runs: str | None) -> None:
    """Print the log of a run's job script and rank 0, or of one rank; without a name those of the newest run.

    \b
    hpcsynapse logs -f two-nodes           as it grows
    hpcsynapse logs two-nodes --failed     of the rank that failed first
    hpcsynapse logs compared/run-2x1       of a run of a study
    """
    run = _chosen(runs_folder(runs), name)
    if failed:
        rank = _failed_rank(run)
    paths = [run.rank_log(rank)] if rank is not None else [run.job_log, run.rank_log(0)]
    if not follow and not any(path.is_file() for path in paths):
        raise RunNotFoundError(_no_log(run, rank))
    before = None
    for path, added in _follow(run, paths) if follow else ((path, _read(path, 0)) for path in paths):
        if rank is None and added and path != before:
            click.echo(f"--- {'job script' if path == run.job_log else 'rank 0'}", err=True)
            before = path
        click.echo(added, nl=False)
    _tell_failure(run, rank)


def _chosen(runs: Path, name: str | None) -> RunDirectory:
    from hpcsynapse.study.folder import StudyDirectory, all_runs, find_run

    if name is None:
        if not (found := all_runs(runs)):
            raise RunNotFoundError(f"no runs in {runs}")
        click.echo(f"hpcsynapse: run {found[-1].name}, the newest", err=True)
        return found[-1]
    if study := StudyDirectory.at(runs, name):
        names = ", ".join(f"{study.name}/{run.name}" for run in study.runs())
        raise RunNotFoundError(f"{name} is a study; write one of its runs: {names or 'it has none yet'}")
    return find_run(runs, name)


def _no_log(run: RunDirectory, rank: int | None) -> str:
    if rank is None:
        return f"run {run.name} has no log of the job"
    ranks = sorted(
        int(found[1]) for path in run.logs.glob("rank-*.log") if (found := re.fullmatch(r"rank-(\d+)", path.stem))
    )
    there = f"; ranks {ranks[0]} to {ranks[-1]} have" if len(ranks) > 1 else "; rank 0 has" if ranks else ""
    return f"run {run.name} has no log of rank {rank}{there}"


def _failed_rank(run: RunDirectory) -> int:
    from hpcsynapse.runs.failure import first_failure

    failure = first_failure(run)
    if not failure:
        raise RunNotFoundError(
            f"run {run.name}: no rank has left word that it failed; see: hpcsynapse status {run.name}"
        )
    return int(failure["rank"])


def _tell_failure(run: RunDirectory, rank: int | None) -> None:
    """Say which rank failed first and where to read it, as the last line, where that is not what was printed."""
    from hpcsynapse.files import read_json
    from hpcsynapse.runs.failure import first_failure

    ended = read_json(run.exit) or {}
    failure = first_failure(run, str(ended.get("attempt", ""))) if ended.get("exit_code") else {}
    if failure and failure["rank"] != (rank or 0):
        text = f"rank {failure['rank']} on {failure['host']} failed first ({failure['reason']}); see: hpcsynapse logs"
        click.echo(f"--- {text} {run.name} --rank {failure['rank']}", err=True)


def _read(path: Path, offset: int) -> bytes:
    """Return what was added since offset, as it is: a program may print anything."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except OSError:
        return b""


def _follow(run: RunDirectory, paths: list[Path]) -> Iterator[tuple[Path, bytes]]:
    """Yield new text of the logs until the run has ended and nothing is left to read."""
    from hpcsynapse.runs.states import FINAL_STATES
    from hpcsynapse.submission.status import statuses

    offsets = dict.fromkeys(paths, 0)
    ended, asked = False, 0.0
    while True:
        for path in paths:
            if added := _read(path, offsets[path]):
                offsets[path] += len(added)
                yield path, added
        if ended:
            return
        if time.monotonic() - asked > 2.0:
            ended, asked = statuses([run])[0].state in FINAL_STATES, time.monotonic()
        time.sleep(0.0 if ended else 0.3)
