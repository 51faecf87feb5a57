"""Progress of one run: a line that is redrawn on a terminal, plain lines when piped."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from hpcsynapse.rundir import FINAL_STATES, RunDirectory, read_json
from hpcsynapse.status import RunStatus, ask_queues, statuses
from hpcsynapse.units import format_seconds

_LOOK = 0.3  # seconds between looks at the run's files
_FIRST_PAUSE, _LAST_PAUSE = 0.3, 5.0  # between questions to the queue, which many people share


def describe(status: RunStatus) -> str:
    """Return one line about a run: state, epoch, step, throughput, loss, accuracy, time left."""
    words = [status.state]
    progress = status.progress
    if progress.get("epochs"):
        words.append(f"epoch {min(int(progress.get('epoch', 0)) + 1, int(progress['epochs']))}/{progress['epochs']}")
    if progress.get("step") is not None:
        words.append(f"step {progress['step']}" + (f"/{progress['steps']}" if progress.get("steps") else ""))
    for key, form in (("samples_per_s", "{:.0f} samples/s"), ("loss", "loss {:.4f}")):
        if isinstance(progress.get(key), (int, float)):
            words.append(form.format(progress[key]))
    words.extend(f"{key} {value:.4f}" for key, value in _metrics(progress).items() if key != "loss")
    if isinstance(progress.get("remark"), str) and progress["remark"]:
        words.append(" ".join(progress["remark"].split()))
    if isinstance(progress.get("eta_s"), (int, float)) and status.state not in FINAL_STATES:
        words.append(f"{format_seconds(progress['eta_s'])} left")
    if status.reason:
        words.append(f"({' '.join(status.reason.split())})")  # queues answer in several lines
    return "  ".join(words)


def _metrics(progress: dict[str, Any]) -> dict[str, float]:
    metrics = progress.get("metrics")
    if not isinstance(metrics, dict):
        return {}
    return {key: float(value) for key, value in metrics.items() if isinstance(value, (int, float))}


def follow(run: RunDirectory, *, to_stderr: bool = False) -> int:
    """Show a run until it has ended; return 0 when it finished or was stopped, else 1.

    Ctrl-C leaves the run alone.
    """
    terminal, last = (sys.stderr if to_stderr else sys.stdout).isatty(), ""
    try:
        for (status,) in watch([run]):
            line = describe(status)
            if line != last:
                show(line, terminal, to_stderr)
                last = line
    except KeyboardInterrupt:
        click.echo(f"\nrun {run.name} goes on; see: hpcsynapse status {run.name}", err=True)
        return 130
    if terminal:
        click.echo(err=to_stderr)
    print_failure(status)
    return 0 if status.state in ("FINISHED", "STOPPED") else 1


def watch(runs: Sequence[RunDirectory], limit: float = math.inf) -> Iterator[list[RunStatus]]:
    """Yield the states of runs again and again, until all have ended or `limit` seconds have passed.

    The runs' files are read all the time, their queues are asked with growing pauses.
    """
    pause, due, end = _FIRST_PAUSE, 0.0, time.monotonic() + limit
    ended: list[dict[str, Any] | None] = []
    while True:
        exit_files = [read_json(run.exit) for run in runs]
        if exit_files != ended or time.monotonic() >= due:
            answers, ended = ask_queues(runs), exit_files
            due, pause = time.monotonic() + pause, min(pause * 1.3, _LAST_PAUSE)
        found = statuses(runs, answers)
        yield found
        if all(status.state in FINAL_STATES for status in found) or time.monotonic() >= end:
            return
        time.sleep(_LOOK)


def show(line: str, terminal: bool, to_stderr: bool) -> None:
    """Print a line; on a terminal it takes the place of the one before."""
    if not terminal:
        click.echo(line, err=to_stderr)
        return
    width = shutil.get_terminal_size().columns - 1
    click.echo("\r\x1b[K" + line[:width], nl=False, err=to_stderr)


def print_failure(status: RunStatus) -> None:
    """Print the last lines of the log of the rank that failed first."""
    if status.failure.get("log"):
        click.echo(f"--- last lines of rank {status.failure['rank']} on {status.failure['host']}", err=True)
        for line in status.failure["log"]:
            click.echo(f"    {line}", err=True)
