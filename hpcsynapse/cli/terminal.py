"""What a terminal is told that a file is not: colours, and lines that end where it does."""

from __future__ import annotations

import os
import shutil
import sys

import click

from hpcsynapse.runs.states import RunState

_COLOURS = {
    RunState.FAILED: "red",
    RunState.LOST: "red",
    RunState.UNKNOWN: "red",
    RunState.QUEUED: "yellow",
    RunState.PREEMPTED: "yellow",
    RunState.SUSPENDED: "yellow",
    RunState.STOPPED: "yellow",
    RunState.FINISHED: "green",
}
LEVELS = {"error": "red", "warning": "yellow", "ok": "green"}


def width(to_stderr: bool = False) -> int | None:
    """Return the columns of the terminal that standard output, or standard error, is; None where it is none."""
    stream = sys.stderr if to_stderr else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def coloured(text: str, colour: str | None) -> str:
    """Return a text in a colour where standard output is a terminal and NO_COLOR is not set (https://no-color.org)."""
    if colour is None or os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return click.style(text, fg=colour)


def state_colour(state: str) -> str:
    """Return the colour of a run's state: what goes on is cyan."""
    return _COLOURS.get(RunState(state), "cyan")
