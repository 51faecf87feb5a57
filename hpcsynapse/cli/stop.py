"""`hpcsynapse stop`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.find import runs_folder

if TYPE_CHECKING:
    from hpcsynapse.runs.directory import RunDirectory


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN|STUDY...")
@click.option("--wait", is_flag=True, help="stay until they have ended")
@runs_option
def command(names: tuple[str, ...], wait: bool, runs: str | None) -> None:
    """Ask runs to finish their step, save a checkpoint and end; `resume` goes on from there.

    Of a study, runs that still wait in the queue are taken out of it.
    """
    from hpcsynapse.runs.states import FINAL_STATES, RunState
    from hpcsynapse.study.folder import find_runs
    from hpcsynapse.submission.cancel import request_cancel
    from hpcsynapse.submission.status import statuses

    found = find_runs(runs_folder(runs), names)
    one_study = len(found) > len(names)
    for run, status in reversed(list(zip(found, statuses(found), strict=True))):  # the last first, as `cancel` does
        if status.state in FINAL_STATES:
            click.echo(f"run {run.name} has ended already: {status.state}")
        elif one_study and status.state == RunState.QUEUED:
            request_cancel(run)
            click.echo(f"run {run.name} has not begun: the queue was told to end it")
        else:
            run.request_stop("stopped by user")
            click.echo(_told(run))
    if wait:
        _stay(found)


def _told(run: RunDirectory) -> str:
    if _own_program(run):
        return f"run {run.name}: its program is asked to stop by the file {run.stop}, if it looks for it"
    return f"run {run.name} will stop after its step"


def _stay(runs: Sequence[RunDirectory]) -> None:
    """Wait until all have ended and say how, once each."""
    from hpcsynapse.cli.progress import describe, watch
    from hpcsynapse.runs.states import FINAL_STATES

    ended: set[str] = set()
    for found in watch(runs):
        for status in found:
            if status.state in FINAL_STATES and status.path not in ended:
                ended.add(status.path)
                click.echo(f"{status.name}  {describe(status)}")


def _own_program(run: RunDirectory) -> bool:
    with suppress(SpecError):
        return bool(run.load_spec().command)
    return False
