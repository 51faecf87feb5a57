"""The scaling report of figures that were measured elsewhere and stand in a CSV table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import nearest
from hpcsynapse.report.intervals import of_repeats, ratio
from hpcsynapse.report.points import ScalingPoint
from hpcsynapse.report.scaling import Report

RANKS = ("ranks", "gpus")
# Measured columns: whether a smaller number is better, and the kind of scaling they show where nothing is said.
MEASURES = {
    "epoch_time_s": (True, "strong"),
    "train_time_h": (True, "strong"),
    "steps_per_s": (False, "weak"),
    "images_per_s": (False, "weak"),
}
OPTIONAL = ("strategy", "batch", "model")
KNOWN = (*RANKS, "nodes", *MEASURES, *OPTIONAL)
MAX_RANKS = 10_000_000
Group = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure; equal groups are compared."""

    group: Group
    ranks: int
    nodes: int | None
    value: float


def table_report(path: Path, scaling: str = "auto", baseline: str | None = None) -> Report:
    """Return one row per point of a table; equal rows are repeats, each group has its own baseline.

    Raises SpecError naming file, line and column of what cannot be read.
    """
    return Report(points=points_of(str(path), *read_table(path), scaling, baseline))


def points_of(
    where: str, measure: str, rows: Iterable[Row], scaling: str = "auto", baseline: str | None = None
) -> list[ScalingPoint]:
    """Return one row per point of measured figures; `where` names them in errors. See `table_report`."""
    smaller_is_better, kind = MEASURES[measure]
    kind = kind if scaling == "auto" else scaling
    groups: dict[Group, dict[tuple[int, int], list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.group, {}).setdefault((row.ranks, row.nodes or 0), []).append(row)
    found = []
    for points in groups.values():
        base = points[_baseline(where, sorted(points), baseline)]
        found += [_point(points[place], base, measure, smaller_is_better, kind) for place in sorted(points)]
    return found


def _baseline(where: str, places: list[tuple[int, int]], asked: str | None) -> tuple[int, int]:
    if asked is None:
        return places[0]
    found = [place for place in places if str(place[0]) == asked]
    if not found:
        known = ", ".join(str(ranks) for ranks, _ in places)
        raise SpecError(f"{where}: --baseline {asked} is not a number of ranks of every group; one has {known}")
    return found[0]


def read_table(path: Path) -> tuple[str, list[Row]]:
    """Return the name of the measured column and the rows; raises SpecError naming line and column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{path}: {error}") from None
    filled = [(number, line) for number, line in lines if any(line)]
    if len(filled) < 2:
        raise SpecError(f"{path}: a line with column names and at least one line of figures are needed")
    header = filled[0][1]
    ranks, measure = _check_header(path, header)
    rows = []
    for number, line in filled[1:]:
        if len(line) != len(header):
            raise SpecError(f"{path}, line {number}: {len(line)} cells, but {len(header)} columns")
        rows.append(_row(f"{path}, line {number}", dict(zip(header, line, strict=True)), ranks, measure))
    return measure, rows


def _check_header(path: Path, header: list[str]) -> tuple[str, str]:
    for name in header:
        if name not in KNOWN:
            raise SpecError(f"{path}: unknown column {name!r}{nearest(name, KNOWN)}; known are {', '.join(KNOWN)}")
        if header.count(name) > 1:
            raise SpecError(f"{path}: column {name!r} is there more than once")
    return _one_of(path, header, RANKS), _one_of(path, header, tuple(MEASURES))


def _one_of(path: Path, header: list[str], names: tuple[str, ...]) -> str:
    found = [name for name in names if name in header]
    if len(found) != 1:
        there = f"{' and '.join(found)} are there" if found else "none is there"
        raise SpecError(f"{path}: exactly one column of {', '.join(names)} is needed, but {there}")
    return found[0]


def _row(where: str, cells: dict[str, str], ranks: str, measure: str) -> Row:
    return Row(
        group=(cells.get("strategy", ""), cells.get("batch", ""), cells.get("model", "")),
        ranks=_count(where, ranks, cells[ranks]),
        nodes=_count(where, "nodes", cells["nodes"]) if cells.get("nodes") else None,
        value=_positive(where, measure, cells[measure]),
    )


def _count(where: str, name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or not 0 < int(text) <= MAX_RANKS:
        raise SpecError(f"{where}: {name} = {text!r} must be a whole number from 1 to {MAX_RANKS}")
    return int(text)


def _positive(where: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise SpecError(f"{where}: {name} = {text!r} must be a number greater than zero")
    return value


def _point(rows: list[Row], base: list[Row], measure: str, smaller_is_better: bool, kind: str) -> ScalingPoint:
    mine, theirs = of_repeats([row.value for row in rows]), of_repeats([row.value for row in base])
    gain = ratio(theirs, mine) if smaller_is_better else ratio(mine, theirs)
    if rows is base:
        speedup, (low, high) = 1.0, (1.0, 1.0)
    else:
        speedup, (low, high) = gain.value, gain.interval() or (None, None)  # type: ignore[assignment]
    ends = mine.interval()
    rates = ends if measure == "images_per_s" and ends else (None, None)
    times = (1 / ends[1], 1 / ends[0]) if measure == "steps_per_s" and ends else (None, None)
    first, growth = rows[0], rows[0].ranks / base[0].ranks
    batch = first.group[1]
    return ScalingPoint(
        strategy=first.group[0],
        engine="",
        model=first.group[2],
        data="",
        nodes=first.nodes,
        ranks=first.ranks,
        baseline_strategy=base[0].group[0],
        baseline_ranks=base[0].ranks,
        scaling=kind,
        batch_per_rank=int(batch) if batch.isascii() and batch.isdecimal() else None,
        global_batch=None,
        repeats=len(rows),
        steps=None,
        warmup_steps=None,
        step_time_s=1 / mine.value if measure == "steps_per_s" else None,
        step_time_s_low=times[0],
        step_time_s_high=times[1],
        epoch_time_s=mine.value if measure == "epoch_time_s" else None,
        throughput=mine.value if measure == "images_per_s" else None,
        throughput_low=rates[0],
        throughput_high=rates[1],
        speedup=speedup,
        speedup_low=low,
        speedup_high=high,
        efficiency=speedup / growth,
        efficiency_low=None if low is None else low / growth,
        efficiency_high=None if high is None else high / growth,
        start_up_s=None,
        accuracy=None,
        flags="" if len(rows) > 1 else "one-repeat",
    )
