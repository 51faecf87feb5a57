"""What a comparison compares: measured points of runs, of a table that `report --csv` wrote, or of figures.

A table does not tell optimizer, hardware and threads. Of a kept interval the variance is found again by what made it:
Student's t with one degree of freedom less than there were repeats, or blocks of steps.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import shown
from hpcsynapse.report.intervals import BLOCKS, LEVEL, Estimate, of_repeats, t_quantile
from hpcsynapse.report.loading import LoadedRun, load
from hpcsynapse.report.points import Point
from hpcsynapse.report.reduced import Measured
from hpcsynapse.report.sources import sources_of, table_of
from hpcsynapse.report.table_rows import MAX_RANKS, MEASURES, read_table
from hpcsynapse.report.varied import Settings, chosen, differing, of_cell, told

RATE = "throughput"
_MOST = 1e30  # of any number in a table, and 1 / _MOST the least: ratios stay numbers
# A table with all of these columns is one that `report --csv` wrote.
_NEEDED = ("strategy", "engine", "model", "data", "nodes", "ranks", "batch_per_rank", "global_batch", "repeats",
           "step_time_s", "step_time_s_low", "step_time_s_high", "throughput", "throughput_low", "throughput_high",
           "accuracy", "flags")  # fmt: skip  # a table


class What(NamedTuple):
    """What was run where; None: not known. Entries are compared when all of it is equal."""

    strategy: str
    engine: str
    model: str
    data: str
    nodes: int | None
    ranks: int
    batch_per_rank: float | None
    global_batch: float | None
    measure: str = RATE
    optimizer: str | None = None
    hardware: str | None = None
    threads: str | None = None
    settings: str = ""  # those in which points of one side differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One measured point: its rate (work per second) over `repeats` runs, and what else is told of it.

    `begun` is when its runs began (Unix time), by time, of those that tell; `settings` all that are known of them.
    """

    what: What
    rate: Estimate
    repeats: int
    step_time_s: float | None = None
    throughput: float | None = None
    accuracy: float | None = None
    flags: tuple[str, ...] = ()
    begun: tuple[float, ...] = ()
    settings: Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise SpecError for a rate of which no ratio can be taken."""
        if not 1 / _MOST < self.rate.value < _MOST:
            raise SpecError(
                f"{self.what.strategy or 'a point'}, {self.what.ranks} ranks: there is nothing to compare, "
                f"as its rate is {self.rate.value:g} per second"
            )


def entries_of(names: Sequence[str], runs: Path, warn: Callable[[str], None]) -> list[Entry]:
    """Return the points of runs, studies and folders of records, or of a table.

    Raises as `sources_of`, `load` and `of_table` do.
    """
    table = table_of(names)
    return of_runs(load(source) for source in sources_of(names, runs, warn)[0]) if table is None else of_table(table)


def of_runs(runs: Iterable[LoadedRun]) -> list[Entry]:
    """Return an entry for every point of some runs; those that are alike are repeats."""
    found: dict[What, list[Measured]] = {}
    known = list(runs)
    names = differing(run.about.settings for run in known)
    for run in known:
        about, measured = run.about, Measured(run)
        batch = measured.global_batch
        what = What(
            about.strategy,
            about.engine,
            about.model,
            about.data,
            about.nodes,
            about.ranks,
            batch / about.ranks,
            batch,
            RATE,
            about.optimizer,
            about.hardware,
            about.threads,
            told(chosen(about.settings, names)),
        )
        found.setdefault(what, []).append(measured)
    return [_of_point(what, Point(tuple(repeats))) for what, repeats in found.items()]


def _of_point(what: What, point: Point) -> Entry:
    return Entry(
        what=what,
        rate=point.estimate(RATE),
        repeats=len(point.repeats),
        step_time_s=point.average("step_time"),
        throughput=point.average(RATE),
        accuracy=point.mean_of("accuracy"),
        flags=tuple(point.flags().split()),
        begun=tuple(sorted(one.run.begun for one in point.repeats if one.run.begun is not None)),
        settings=point.first.run.about.settings,
    )


def of_table(path: Path) -> list[Entry]:
    """Return an entry for every row that `report --csv` wrote, or for every point of a table of figures.

    Raises SpecError naming file, line and column of what cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if not set(_NEEDED) <= set(reader.fieldnames or ()):
                return _of_figures(path)
            rows = [(f"{path}, line {reader.line_num}", row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{path}: {error}") from None
    if not rows:
        raise SpecError(f"{path}: there is no point in this table")
    return [_of_row(where, row) for where, row in rows]


def _of_figures(path: Path) -> list[Entry]:
    table = read_table(path)
    measure = table.measures[0]
    found: dict[What, list[float]] = {}
    for row in table.rows:
        size, value = row.batch_per_rank, row.values[measure]
        data = row.data or (row.batch if size is None else "")
        what = What(row.strategy, "", row.model, data, row.nodes, row.ranks, size, row.global_batch, measure)
        found.setdefault(what, []).append(1 / value if MEASURES[measure][0] else value)
    return [
        Entry(what=what, rate=of_repeats(values), repeats=len(values), flags=() if len(values) > 1 else ("one-repeat",))
        for what, values in found.items()
    ]


def _of_row(where: str, cells: Mapping[str, Any]) -> Entry:
    if None in cells or None in cells.values():
        raise SpecError(f"{where}: this line has not as many cells as there are columns")
    ranks, repeats = (_count(where, cells, name) for name in ("ranks", "repeats"))
    step_time, throughput = (_number(where, cells, name) for name in ("step_time_s", RATE))
    nodes = _count(where, cells, "nodes") if cells["nodes"] else None
    shown = "step_time_s" if throughput is None else RATE  # a program may record no samples
    return Entry(
        what=What(
            cells["strategy"],
            cells["engine"],
            cells["model"],
            cells["data"],
            nodes,
            ranks,
            _number(where, cells, "batch_per_rank"),
            _number(where, cells, "global_batch"),
            settings=cells.get("settings", ""),
        ),
        rate=_rate(where, cells, shown, repeats),
        repeats=repeats,
        step_time_s=step_time,
        throughput=throughput,
        accuracy=_number(where, cells, "accuracy"),
        flags=tuple(cells["flags"].split()),
        settings=of_cell(cells.get("settings", "")),
    )


def _rate(where: str, cells: Mapping[str, Any], name: str, repeats: int) -> Estimate:
    """Return the rate that a row shows as step time or throughput, with the variance that its interval came from."""
    value, low, high = (_number(where, cells, f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        raise SpecError(f"{where}: there is neither a step time nor a throughput to compare")
    rate = value if name == RATE else 1 / value
    if low is None or high is None:
        return Estimate(rate)
    if not low <= value <= high:
        raise SpecError(f"{where}: {name} = {value:g} does not lie in its interval from {low:g} to {high:g}")
    freedom = repeats - 1 if repeats > 1 else BLOCKS - 1
    deviation = math.log(high / low) / 2 / t_quantile((1 + LEVEL) / 2, freedom)
    return Estimate(rate, deviation**2, freedom)


def _count(where: str, cells: Mapping[str, Any], name: str) -> int:
    text = cells[name]
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or not 0 < int(text) <= MAX_RANKS:
        raise SpecError(f"{where}: {name} = {shown(text)} must be a whole number from 1 to {MAX_RANKS}")
    return int(text)


def _number(where: str, cells: Mapping[str, Any], name: str) -> float | None:
    """Return a number, or None for an empty cell or a column that is not there; zero is none but of an accuracy."""
    text = cells.get(name, "")
    try:
        value = float(text if text.isascii() and "_" not in text else "nan") if text else None
    except ValueError:
        value = math.nan
    if value is not None and not (1 / _MOST < value < _MOST or (name == "accuracy" and value == 0)):
        raise SpecError(f"{where}: {name} = {shown(text)} must be a number greater than zero, and less than {_MOST:g}")
    return value
