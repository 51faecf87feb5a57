"""Tables for people, as commands print them: the same columns, headings, units and roundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcsynapse.table import Columns


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column: its name for programs, its heading, what it means, and whether it holds numbers."""

    name: str
    head: str
    meaning: str
    number: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its title, columns, and rows of cells as text; `same` tells in words what is equal in all rows."""

    title: str
    columns: list[TableColumn]
    rows: list[list[str]]
    same: str


def table_of(title: str, rows: Sequence[Any], known: Columns, fold: bool = False) -> Table:
    """Return rows as a table; folded, what is equal in all of them is said once."""
    from hpcsynapse.report.varied import spread
    from hpcsynapse.writers import filled, folded

    rows, known = spread(rows, known)
    shown, cells, same = folded(rows, known) if fold else (*filled(rows, known), "")
    return Table(
        title=title,
        columns=[TableColumn(one.name, one.head, one.meaning, one.unit.right) for one in shown],
        rows=[[str(cell) for cell in line] for line in cells],
        same=same,
    )


def no_table(title: str = "") -> Table:
    """Return a table without rows, where nothing can be told."""
    return Table(title, [], [], "")
