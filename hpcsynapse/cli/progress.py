"""Progress of runs: a bar on a terminal, plain lines when piped."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from hpcsynapse.cli.bars import Bar
from hpcsynapse.files import read_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import FINAL_STATES, RunState
from hpcsynapse.study.folder import name_of
from hpcsynapse.submission.queries import ask_queues
from hpcsynapse.submission.status import RunStatus, epoch_at_work, statuses
from hpcsynapse.units import format_seconds

# The training loss stands there already; the others are for reports, and a line is short.
_UNTOLD = frozenset({"loss", "top5_accuracy", "precision", "recall", "f1"})
_BEGINNING = 60.0  # seconds
_LOOK = 0.3  # seconds between looks at the run's files
_FIRST_PAUSE, _LAST_PAUSE = 0.3, 5.0  # between questions to the queue, which many people share


def describe(status: RunStatus) -> str:
    """Return one line about a run: state, part done, time left, epoch, step, rate, loss, accuracy, why it ended."""
    return "  ".join(words(status))


def words(status: RunStatus) -> list[str]:
    """Return the parts of that line, the most wanted first, so that a narrow terminal leaves out the others."""
    progress = status.progress
    found = [str(status.state)]
    if status.state not in FINAL_STATES:
        found += [part_done(progress), f"{left} left" if (left := time_left(status)) else epoch_left(progress)]
    elif status.reason:
        found.append(f"({one_line(status.reason)})")
    found.append(f"epoch {epochs}" if (epochs := epoch(progress)) else "")
    found.append(f"step {steps}" if (steps := step(progress)) else "")
    found += [pace(progress), rate(progress)]
    found.append(f"loss {text}" if (text := number(progress.get("loss"))) else "")
    found += [f"{key} {metric(key, value)}" for key, value in _metrics(progress).items()]
    # Beside what a run failed of, it would only distract that there are no steps.
    keys = ("remark",) if status.state == RunState.FAILED or _begins(status) else ("remark", "unrecorded")
    found += [one_line(progress[key]) for key in keys if isinstance(progress.get(key), str)]
    if status.reason and status.state not in FINAL_STATES:
        found.append(f"({one_line(status.reason)})")
    return [word for word in found if word]


def _begins(status: RunStatus) -> bool:
    """Tell whether a run goes on for so short a time that a program without steps may still import its modules."""
    return status.state not in FINAL_STATES and status.since is not None and time.time() - status.since < _BEGINNING


def epoch(progress: dict[str, Any]) -> str:
    """Return the epoch at work and their number, `5/40`, both counted from 1; nothing where there are none."""
    return f"{epoch_at_work(progress)}/{progress['epochs']}" if progress.get("epochs") else ""


def step(progress: dict[str, Any]) -> str:
    """Return the steps made, and their number where it is known: `95/880`."""
    if progress.get("step") is None:
        return ""
    return f"{progress['step']}" + (f"/{progress['steps']}" if progress.get("steps") else "")


def part_done(progress: dict[str, Any]) -> str:
    """Return the part of the steps that is made: `11%`."""
    made, steps = progress.get("step"), progress.get("steps")
    return f"{100 * min(made / steps, 1.0):.0f}%" if steps and made is not None else ""


def fraction(status: RunStatus) -> float | None:
    """Return the part of the steps that is made, from 0 to 1; None where that is not known."""
    made, steps = status.progress.get("step"), status.progress.get("steps")
    return min(made / steps, 1.0) if steps and made is not None else None


def pace(progress: dict[str, Any]) -> str:
    """Return the steps a second of a program that records them: `12.5 steps/s`."""
    value = progress.get("steps_per_s")
    return f"{value:.3g} steps/s" if isinstance(value, (int, float)) else ""


def rate(progress: dict[str, Any]) -> str:
    """Return the samples of all ranks a second: `318 samples/s`."""
    value = progress.get("samples_per_s")
    return f"{value:.0f} samples/s" if isinstance(value, (int, float)) else ""


def time_left(status: RunStatus) -> str:
    """Return how long a run that goes on will take by its present rate."""
    value = status.progress.get("eta_s")
    return format_seconds(value) if isinstance(value, (int, float)) and status.state not in FINAL_STATES else ""


def epoch_left(progress: dict[str, Any]) -> str:
    """Return how long the epoch at work goes on, where the loader tells that and nobody how many epochs there are."""
    value, at_work = progress.get("epoch_eta_s"), progress.get("epoch")
    known = isinstance(value, (int, float)) and isinstance(at_work, int)
    return f"{format_seconds(value)} left of epoch {at_work + 1}" if known else ""  # type: ignore[arg-type,operator]


def number(value: object) -> str:
    """Return a loss with three digits that count."""
    return f"{value:.3g}" if isinstance(value, (int, float)) else ""


def metric(name: str, value: float) -> str:
    """Return a result of validation; what reports show in per cent is shown so here."""
    return f"{100 * value:.1f}%" if name == "accuracy" else number(value)


def one_line(text: str) -> str:
    """Return what a queue answers in several lines as one."""
    return " ".join(text.split())


def _metrics(progress: dict[str, Any]) -> dict[str, float]:
    metrics = progress.get("metrics")
    if not isinstance(metrics, dict):
        return {}
    told = {key: value for key, value in metrics.items() if key not in _UNTOLD and not key.startswith("train_")}
    return {key: float(value) for key, value in told.items() if isinstance(value, (int, float))}


def follow(run: RunDirectory, *, to_stderr: bool = False) -> int:
    """Show a run until it has ended; return 0 when it finished or was stopped, else 1.

    Ctrl-C leaves the run alone.
    """
    bar, last = Bar(to_stderr), list[str]()
    try:
        for (status,) in watch([run]):
            told = words(status)
            if bar.on and status.state not in FINAL_STATES:
                bar.show(fraction(status), told)
            elif told != last:
                bar.clear()
                click.echo("  ".join(told), err=to_stderr)
            last = told
    except KeyboardInterrupt:
        bar.clear()
        click.echo(f"run {run.name} goes on; see: hpcsynapse status {run.name}", err=True)
        return 130
    finally:
        bar.clear()
    print_failure(status)
    if next_steps := what_next(run, status):
        click.echo(f"see: {next_steps}", err=True)
    return 0 if status.state in (RunState.FINISHED, RunState.STOPPED) else 1


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


def what_next(run: RunDirectory, status: RunStatus) -> str:
    """Return the commands that somebody will want after a run has ended."""
    name = name_of(run)
    if status.state == RunState.FINISHED:
        return f"hpcsynapse logs {name}" + (f"; hpcsynapse report {name}" if any(run.timings.glob("*")) else "")
    if status.state == RunState.STOPPED:
        return f"hpcsynapse resume {name}"
    return f"hpcsynapse logs {name} --failed" if status.failure else f"hpcsynapse logs {name}"


def print_failure(status: RunStatus) -> None:
    """Print the last lines of the log of the rank that failed first."""
    if status.failure.get("log"):
        click.echo(f"--- last lines of rank {status.failure['rank']} on {status.failure['host']}", err=True)
        for line in status.failure["log"]:
            click.echo(f"    {line}", err=True)
