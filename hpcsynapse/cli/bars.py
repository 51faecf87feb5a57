"""Progress bars on a terminal (package rich; without it a line that is redrawn), and what stands for them elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from hpcsynapse.cli.terminal import width

PATIENCE = 2.0  # seconds that a piece of work may take before it shows how far it is
_EVERY = 10.0  # seconds between the lines that it prints where there is no terminal
_REDRAW = 0.1  # seconds between two pictures of a bar, at least
_BAR = 24  # columns
_LONGEST = 40  # characters of the first word


class Bar:
    """The last line of a terminal while something goes on: first word, a bar, the other words as far as they fit.

    Nothing of it is left when it is cleared. Where there is no terminal, or a dumb one, nothing is shown.
    """

    def __init__(self, to_stderr: bool) -> None:
        self._to_stderr = to_stderr
        self.on = width(to_stderr) is not None and os.environ.get("TERM") != "dumb"
        self._rich: Any = None
        self._shown = self._missing = False

    def show(self, part: float | None, words: Sequence[str]) -> None:
        """Show which part (0 to 1, None: unknown) is done, and words of which the first is the most wanted."""
        if not self.on or not words:
            return
        if self._rich is None and not self._missing:
            self._rich = _progress(self._to_stderr)
            self._missing = self._rich is None
        self._shown = True
        if self._rich is None:
            self._redraw(words)
            return
        begins = not self._rich.tasks
        if begins:
            self._rich.add_task("", total=None, rest="")
        task = self._rich.tasks[0]
        task.description, task.fields["rest"] = words[0][:_LONGEST], "  ".join(words[1:])
        known = part is not None and math.isfinite(part)
        task.total, task.completed = (1.0, min(max(part or 0.0, 0.0), 1.0)) if known else (None, 0.0)
        if begins:
            self._rich.start()
        self._rich.refresh()

    def clear(self) -> None:
        """Take the bar away; it may be shown again."""
        if not self._shown:
            return
        self._shown = False
        if self._rich is None:
            click.echo("\r\x1b[K", nl=False, err=self._to_stderr)
        else:
            self._rich.stop()
            self._rich = None

    def _redraw(self, words: Sequence[str]) -> None:
        """Put a line in the place of the one before, with the words that fit."""
        kept, room = list(words), (width(self._to_stderr) or 80) - 1
        while len(kept) > 1 and len("  ".join(kept)) > room:
            kept.pop()
        click.echo("\r\x1b[K" + "  ".join(kept)[:room], nl=False, err=self._to_stderr)


def _progress(to_stderr: bool) -> Any:
    """Return rich's bar, None where that package is not installed; NO_COLOR is honoured by it."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column
    except ImportError:
        return None
    rest = TextColumn(
        "{task.fields[rest]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
    )
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(_BAR),
        rest,
        console=Console(file=sys.stderr if to_stderr else sys.stdout, highlight=False),
        auto_refresh=False,
        expand=True,
        transient=True,
    )


@contextmanager
def working(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what is to be told how many pieces of how many are done, by work that may take more than two seconds.

    It then shows a bar on standard error, or where that is no terminal prints a line each ten seconds.
    """
    bar, begin = Bar(to_stderr=True), time.monotonic()
    drawn = begin

    def tell(done: int, of: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - begin < PATIENCE or now - drawn < (_REDRAW if bar.on else _EVERY):
            return
        drawn = now
        words = [title, f"{done}/{of}"]
        if bar.on:
            bar.show(done / of if of else None, words)
        else:
            click.echo("  ".join(words), err=True)

    try:
        yield tell
    finally:
        bar.clear()


@contextmanager
def reading() -> Iterator[None]:
    """Show how far reports have read the records of runs, where that takes more than two seconds."""
    bar, begin = Bar(to_stderr=True), time.monotonic()
    drawn = begin
    names = dict[str, None]()

    def listen(run: str, done: int, of: int) -> None:
        nonlocal drawn
        names[run] = None
        now = time.monotonic()
        if now - begin < PATIENCE or now - drawn < (_REDRAW if bar.on else _EVERY):
            return
        drawn = now
        words = ["reading", f"run {len(names)}  {run}  {done}/{of} ranks"]
        if bar.on:
            bar.show(done / of, words)
        else:
            click.echo("  ".join(words), err=True)

    from hpcsynapse.report.reading import told_to

    try:
        with told_to(listen):
            yield
    finally:
        bar.clear()
