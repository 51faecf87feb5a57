"""The rows of a table of figures that were measured elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import nearest
from hpcsynapse.report.table_file import Line, read_lines

RANKS = ("ranks", "gpus")
# Measured columns: whether a smaller number is better, and the kind of scaling they show where nothing is said.
MEASURES = {
    "epoch_time_s": (True, "strong"),
    "train_time_h": (True, "strong"),
    "step_time_s": (True, "weak"),
    "steps_per_s": (False, "weak"),
    "images_per_s": (False, "weak"),
}
QUALITY = ("accuracy", "error")
OPTIONAL = ("strategy", "batch", "model", "global_batch", "data")
KNOWN = (*RANKS, "nodes", *MEASURES, *QUALITY, *OPTIONAL)
MAX_RANKS = 10_000_000
Place = tuple[int, int]  # ranks, nodes (0: not known)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured once, by measure; `batch` is that of a rank as it was written, `global_batch` of all ranks."""

    strategy: str
    model: str
    batch: str
    ranks: int
    nodes: int | None
    values: Mapping[str, float]
    accuracy: float | None = None
    global_batch: float | None = None
    data: str = ""

    @property
    def place(self) -> Place:
        """Ranks and nodes."""
        return self.ranks, self.nodes or 0

    @property
    def batch_per_rank(self) -> float | None:
        """Samples of a rank in a step, where that is known."""
        if self.global_batch is not None:
            return self.global_batch / self.ranks
        return int(self.batch) if self.batch.isascii() and self.batch.isdecimal() else None


@dataclass(slots=True)
class Table:
    """The rows of a table, its measured columns in their order, and what its reader has to be told."""

    measures: list[str]
    rows: list[Row]
    warnings: list[str] = field(default_factory=list)


def read_table(path: Path) -> Table:
    """Return the rows of a table; raises SpecError naming line and column."""
    header, lines = read_lines(path, KNOWN)
    ranks, measures = _check_header(path, header)
    table = Table(measures, [_row(line, ranks, measures) for line in lines])
    return _with_global_batches(path, table) if "global_batch" not in header else table


def _check_header(path: Path, header: list[str]) -> tuple[str, list[str]]:
    for name in header:
        if name not in KNOWN:
            raise SpecError(f"{path}: unknown column {name!r}{nearest(name, KNOWN)}; known are {', '.join(KNOWN)}")
        if header.count(name) > 1:
            raise SpecError(f"{path}: column {name!r} is there more than once")
    for pair in (("batch", "global_batch"), QUALITY):
        if set(pair) <= set(header):
            raise SpecError(f"{path}: columns {pair[0]} and {pair[1]} say the same; keep one of them")
    measures = [name for name in header if name in MEASURES]
    if not measures:
        raise SpecError(f"{path}: a column of {', '.join(MEASURES)} is needed, but none is there")
    return _one_of(path, header, RANKS), measures


def _one_of(path: Path, header: list[str], names: tuple[str, ...]) -> str:
    found = [name for name in names if name in header]
    if len(found) != 1:
        there = f"{' and '.join(found)} are there" if found else "none is there"
        raise SpecError(f"{path}: exactly one column of {', '.join(names)} is needed, but {there}")
    return found[0]


def _row(line: Line, ranks: str, measures: list[str]) -> Row:
    told = {name for name, text in line.cells.items() if text}
    # A figure may be missing where another is there, but not the one that is compared.
    values = {name: line.number(name) for name in measures if name in told or name == measures[0]}
    quality = next((name for name in QUALITY if name in told), None)
    fraction = None if quality is None else line.fraction(quality)
    return Row(
        strategy=line.cells.get("strategy", ""),
        model=line.cells.get("model", ""),
        batch=line.cells.get("batch", ""),
        ranks=line.count(ranks, MAX_RANKS),
        nodes=line.count("nodes", MAX_RANKS) if "nodes" in told else None,
        values=values,
        accuracy=1 - fraction if fraction is not None and quality == "error" else fraction,
        global_batch=line.number("global_batch") if "global_batch" in told else None,
        data=line.cells.get("data", ""),
    )


def _with_global_batches(path: Path, table: Table) -> Table:
    """Take a batch that grows as the ranks do for the global one: of a rank, it would leave nothing to compare."""
    batches = [[(row.batch_per_rank, row.ranks) for row in rows] for rows in families(table.rows)]
    grows = all(
        None not in {batch for batch, _ in pairs}
        and len({(batch or 0.0) / ranks for batch, ranks in pairs}) == 1
        and len({ranks for _, ranks in pairs}) > 1
        for pairs in batches
    )
    if not grows:
        return table
    (first, ranks), (last, most) = batches[0][0], batches[0][-1]
    warning = (
        f"{path}: batch grows as the ranks do ({first:g} on {ranks}, {last:g} on {most}) and is taken as "
        "that of all ranks: weak scaling; a column global_batch says so"
    )
    rows = [replace(row, batch="", global_batch=row.batch_per_rank) for row in table.rows]
    return Table(table.measures, rows, [warning])


def families(rows: Iterable[Row]) -> list[list[Row]]:
    """Return rows that differ in batch, ranks and nodes alone."""

    def key(row: Row) -> tuple[str, str, str]:
        return row.strategy, row.model, row.data

    return [list(family) for _, family in groupby(sorted(rows, key=key), key)]
