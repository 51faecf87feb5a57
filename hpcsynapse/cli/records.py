"""`hpcsynapse records`: the step records of a run, for people and other programs."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from hpcsynapse.cli.options import form_options, runs_option
from hpcsynapse.errors import RecordError
from hpcsynapse.runs.find import runs_folder
from hpcsynapse.runs.records import Part, parts
from hpcsynapse.study.folder import find_run
from hpcsynapse.timing import FIELDS, MERGED_NAME, RECORD, cause_of

COLUMNS = ("rank", "host", "attempt", *(name for name, _, _ in FIELDS), "pause")
_CODES = tuple(code for _, _, code in FIELDS)
_FLAGS = [name for name, _, _ in FIELDS].index("flags")


@click.command()
@click.argument("name", metavar="RUN")
@runs_option
@form_options("csv", "json", csv="CSV", json="a JSON list, one object a line")
@click.option("--rank", type=click.IntRange(min=0), help="only the records of this rank")
def command(name: str, runs: str | None, form: str | None, rank: int | None) -> None:
    """Print every step record of a run, by start of the job and rank.

    Durations are seconds, start is Unix time, staleness -1 means none, flags 1 means warm-up; an unknown loss is empty.
    A line with a cause in the last column is no step but a pause before it: validation, checkpoint, restart or other.
    """
    chosen = _parts(runs_folder(runs), name, rank)
    write = {"csv": _write_csv, "json": _write_json, None: _write_text}[form]
    try:
        write(_rows(chosen))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; the interpreter's own flush at exit must find an open end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parts(runs: Path, name: str, rank: int | None) -> list[Part]:
    folder = Path(name)
    bare = not (runs / name / "run.toml").is_file() and not (folder / "run.toml").is_file()
    if not (bare and ((folder / MERGED_NAME).is_file() or any(folder.glob("rank-*.steps")))):
        folder = find_run(runs, name).timings
    found = [part for part in parts(folder) if rank is None or part.header["rank"] == rank]
    if not found:
        whose = "" if rank is None else f" of rank {rank}"
        raise RecordError(f"{name}: no step records{whose} in {folder}")
    return found


def _rows(chosen: Iterable[Part]) -> Iterator[list[Any]]:
    for part in chosen:
        who = [part.header["rank"], part.header.get("host", ""), part.header.get("attempt", "")]
        for record in RECORD.iter_unpack(part.read()):
            yield [*who, *map(_value, _CODES, record), cause_of(record[_FLAGS])]


def _value(code: str, value: Any) -> Any:
    """Return a value as printed: 32-bit floats with the digits that they have."""
    if code == "f":
        return _short(value) if math.isfinite(value) else None
    return round(value, 6) if code == "d" else value


def _short(value: float) -> float:
    """Return the shortest decimal of six digits that is the same 32-bit float, else nine digits, which always are."""
    rounded = float(f"{value:.6g}")
    return rounded if abs(rounded - value) < abs(value) * 2.0**-25 else float(f"{value:.9g}")


def _write_csv(rows: Iterable[list[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)


def _write_json(rows: Iterable[list[Any]]) -> None:
    separator = "[\n"
    for row in rows:
        sys.stdout.write(separator + json.dumps(dict(zip(COLUMNS, row, strict=True))))
        separator = ",\n"
    sys.stdout.write("\n]\n" if separator == ",\n" else "[]\n")


def _write_text(rows: Iterable[list[Any]]) -> None:
    widths = [max(len(name), 10) for name in COLUMNS]
    widths[COLUMNS.index("start")] = 17
    sys.stdout.write(_aligned(COLUMNS, widths))
    for row in rows:
        sys.stdout.write(_aligned(["-" if value is None else str(value) for value in row], widths))


def _aligned(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + "\n"
