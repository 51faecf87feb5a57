"""How commands print a table: the options for its form, columns and file, and the width of the terminal."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hpcsynapse.cli.options import form_options
from hpcsynapse.errors import SpecError
from hpcsynapse.report.varied import spread
from hpcsynapse.table import Columns, chosen
from hpcsynapse.writers import WRITERS, to_text

_BY_ENDING = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex"}


@dataclass(frozen=True, slots=True)
class Output:
    """Where a table goes, in which form (None: for people, on a terminal) and with which columns (none: by itself)."""

    form: str | None = None
    names: tuple[str, ...] = ()
    path: Path | None = None

    def table(self, rows: Sequence[Any], known: Columns) -> None:
        """Print or write rows; raises SpecError for a column that is not known, and a file that cannot be written."""
        rows, known = spread(rows, known)
        known = chosen(known, self.names) if self.names else known
        self.text(to_text(rows, known, terminal_width()) if self.form is None else WRITERS[self.form](rows, known))

    def text(self, text: str) -> None:
        """Print or write a text; raises SpecError for a file that cannot be written."""
        if self.path is None:
            click.echo(text, nl=False)
        else:
            write(self.path, text, "--out")
            click.echo(f"written: {self.path}", err=True)


def table_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a table; the command gets them as `output`."""

    @functools.wraps(function)
    def call(*args: Any, form: str | None, columns: str | None, out: str | None, **given: Any) -> Any:
        return function(*args, output=_output(form, columns, out), **given)

    for option in (
        click.option("--out", metavar="FILE", help="write it into FILE; .csv, .json, .md or .tex choose the form"),
        click.option("--columns", metavar="A,B,...", help="these columns in this order, by their names in --csv"),
    ):
        call = option(call)
    return form_options("csv", "json", "markdown", "latex")(call)


def write(path: Path, text: str, option: str) -> None:
    """Write a whole file or none; raises SpecError naming the option."""
    from hpcsynapse.files import write_atomic

    try:
        write_atomic(path, text)
    except OSError as error:
        raise SpecError(f"{option} {path}: {error.strerror or error}") from None


def terminal_width() -> int | None:
    """Return the columns of the terminal that standard output is, or None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _output(form: str | None, columns: str | None, out: str | None) -> Output:
    names = () if columns is None else tuple(name.strip() for name in columns.split(","))
    if out is None:
        return Output(form, names)
    meant = _BY_ENDING.get(Path(out).suffix)
    if form is None and meant is None:
        raise SpecError(f"--out {out}: the ending chooses the form: .csv, .json, .md or .tex")
    if form is not None and meant not in (None, form):
        raise SpecError(f"--{form} and --out {out} are two forms; leave --{form} out, or call the file otherwise")
    return Output(form or meant, names, Path(out))
