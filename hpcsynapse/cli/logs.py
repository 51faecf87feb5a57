"""`hpcsynapse logs`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import RunNotFoundError


@click.command()
@click.argument("name", metavar="RUN")
@click.option("-f", "--follow", is_flag=True, help="go on until the run has ended")
@click.option("--rank", type=click.IntRange(min=0), help="the log of this rank [rank 0 and the job script]")
@runs_option
def command(name: str, follow: bool, rank: int | None, runs: str | None) -> None:
    """Print the log of a run's job script and rank 0, or of one rank."""
    from hpcsynapse import submission
    from hpcsynapse.rundir import RunDirectory

    run = RunDirectory.find(submission.runs_folder(runs), name)
    paths = [run.rank_log(rank)] if rank is not None else [run.logs / "job.log", run.rank_log(0)]
    if not follow and not any(path.is_file() for path in paths):
        raise RunNotFoundError(f"run {run.name} has no log of {'rank ' + str(rank) if rank is not None else 'the job'}")
    for added in _follow(run, paths) if follow else (_read(path, 0) for path in paths):
        click.echo(added, nl=False)


def _read(path: Path, offset: int) -> bytes:
    """Return what was added since offset, as it is: a program may print anything."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except OSError:
        return b""


def _follow(run: object, paths: list[Path]) -> Iterator[bytes]:
    """Yield new text of the logs until the run has ended and nothing is left to read."""
    from hpcsynapse.rundir import FINAL_STATES, RunDirectory
    from hpcsynapse.status import statuses

    assert isinstance(run, RunDirectory)  # noqa: S101  typed loosely above only to keep imports lazy
    offsets = dict.fromkeys(paths, 0)
    ended, asked = False, 0.0
    while True:
        for path in paths:
            if added := _read(path, offsets[path]):
                offsets[path] += len(added)
                yield added
        if ended:
            return
        if time.monotonic() - asked > 2.0:
            ended, asked = statuses([run])[0].state in FINAL_STATES, time.monotonic()
        time.sleep(0.0 if ended else 0.3)
