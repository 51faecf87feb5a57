"""Task farms: every point of a grid of parameters as one line, with what must wait for what."""

from __future__ import annotations

import csv
import io
import itertools
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.files import write_atomic
from hpcsynapse.greasy.recorded import clear_results, write_recorded
from hpcsynapse.greasy.tasks import Task, TaskList, read

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_TASKS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Farm:
    """A command with `{name}` where values of the grid go; `then` waits for all, `chain` orders along one name."""

    command: tuple[str, ...]
    grid: dict[str, tuple[str, ...]]
    then: tuple[str, ...] = ()
    chain: str | None = None

    def __post_init__(self) -> None:
        if not self.command:
            raise SpecError("greasy farm: which program? Give it behind --, with {name} for the values of --grid")
        for word in (*self.command, *self.then):
            fields.printable("greasy farm command", word)
        size = 1
        for name, values in self.grid.items():
            if not _NAME.fullmatch(name) or name == "task":
                raise SpecError(f"--grid {name}: a name is made of letters, digits and _, and is not 'task'")
            if not values or len(set(values)) != len(values):
                raise SpecError(f"--grid {name}: give values, each once")
            for value in values:
                fields.printable(f"--grid {name}", value)
            size *= len(values)
        if size > MAX_TASKS:
            raise SpecError(f"greasy farm: {size} tasks are too many; at most {MAX_TASKS}")
        if self.chain is not None and self.chain not in self.grid:
            raise SpecError(f"--chain {self.chain}: no such name in the grid{fields.nearest(self.chain, self.grid)}")
        for word in self.command:
            for name in _PLACE.findall(word):
                if name not in self.grid and name != "task":
                    hint = fields.nearest(name, self.grid)
                    raise SpecError(f"{word!r}: {{{name}}} has no values{hint or '; add --grid ' + name + '=...'}")


def parse_grid(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the grid of options `name=value,value`; a value that contains a comma is quoted as in CSV."""
    grid: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, found, values = text.partition("=")
        if not found:
            raise SpecError(f"--grid {text!r}: write name=value,value,...")
        fields.one_line("--grid", values)
        if name in grid:
            raise SpecError(f"--grid {name} is given twice")
        grid[name] = tuple(next(csv.reader([values]), []))
    return grid


def from_toml(path: Path) -> Farm:
    """Return the farm of a file with `command`, `[grid]` and optionally `then` and `chain`; raises SpecError."""
    try:
        # Numbers with a point stay as they are written: 1e400 is no infinity, and 0.10 no 0.1.
        table = tomllib.loads(read(path), parse_float=lambda text: text.replace("_", ""))
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: {fields.why_unreadable(error)}") from None
    known = ("command", "grid", "then", "chain")
    for key in table:
        if key not in known:
            raise SpecError(f"{path}: unknown setting {key}{fields.nearest(key, known)}")
    grid = table.get("grid", {})
    if not isinstance(grid, Mapping) or not all(isinstance(values, list) for values in grid.values()):
        raise SpecError(f"{path}: [grid] must hold a list of values for every name")
    return Farm(
        command=_words(path, "command", table.get("command", [])),
        then=_words(path, "then", table.get("then", [])),
        grid={str(name): tuple(_text(path, name, value) for value in values) for name, values in grid.items()},
        chain=fields.coerce(f"{path}: chain", str, table["chain"]) if "chain" in table else None,
    )


def _words(path: Path, name: str, value: Any) -> tuple[str, ...]:
    words: tuple[str, ...] = fields.coerce(f"{path}: {name}", tuple[str, ...], value)
    return words


def _text(path: Path, name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise SpecError(f"{path}: grid.{name}: {fields.shown(value)} is neither a text nor a number")
    try:
        return str(value)
    except ValueError:  # hexadecimal, of more digits than Python writes
        raise SpecError(f"{path}: grid.{name}: a number has too many digits") from None


def tasks_of(farm: Farm) -> tuple[TaskList, list[tuple[str, ...]]]:
    """Return the lines of a farm, the last name of the grid varying fastest, and the values of each line."""
    names = list(farm.grid)
    stride, length = _stride(farm)
    fill = _filler(farm.command, names)
    tasks: list[Task] = []
    points: list[tuple[str, ...]] = []
    for line, values in enumerate(itertools.product(*farm.grid.values()), 1):
        first = not stride or (line - 1) // stride % length == 0
        tasks.append(Task(line, fill(line, values), () if first else (line - stride,)))
        points.append(values)
    if farm.then:
        last = len(tasks) + 1
        tasks.append(Task(last, shlex.join(farm.then), tuple(range(1, last))))
        points.append(("",) * len(names))
    return TaskList(tuple(tasks)), points


def _stride(farm: Farm) -> tuple[int, int]:
    """Return how many lines lie between neighbours along the chain, and how long a chain is."""
    if farm.chain is None:
        return 0, 1
    stride = 1
    for name in reversed(farm.grid):
        if name == farm.chain:
            break
        stride *= len(farm.grid[name])
    return stride, len(farm.grid[farm.chain])


def _filler(command: Sequence[str], names: Sequence[str]) -> Callable[[int, tuple[str, ...]], str]:
    """Return a function that puts values in their places and quotes the words that have any; the others once."""
    words: list[str | list[str]] = [
        parts if len(parts := _PLACE.split(word)) > 1 else shlex.quote(word) for word in command
    ]  # text, name, text, name, ..., text

    def fill(line: int, values: tuple[str, ...]) -> str:
        table = dict(zip(names, values, strict=True), task=str(line))
        filled = []
        for word in words:
            if not isinstance(word, str):
                parts = word.copy()
                parts[1::2] = [table[name] for name in word[1::2]]
                word = shlex.quote("".join(parts))
            filled.append(word)
        return " ".join(filled)

    return fill


def write_farm(
    folder: Path,
    farm: Farm,
    workdir: str,
    *,
    limit: int = 0,
    gpus: int | None = None,
    force: bool = False,
    template_dir: str | None = None,
) -> TaskList:
    """Write list, script, commands and parameters of a farm into a folder and return the list.

    Raises SpecError when the folder holds results of an earlier farm, unless they may be removed.
    """
    if not force and next((folder / "results").glob("*.json"), None):
        raise SpecError(f"{folder} holds results already; choose another --dir, or remove them with --force")
    tasks, points = tasks_of(farm)
    clear_results(folder)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["line", *farm.grid])
    writer.writerows([line, *values] for line, values in enumerate(points, 1))
    write_atomic(folder / "parameters.csv", text.getvalue())
    return write_recorded(folder, tasks, workdir, limit=limit, gpus=gpus, template_dir=template_dir)
