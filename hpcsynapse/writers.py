"""Tables as text, CSV, JSON, Markdown, LaTeX and documentation, from rows and their columns (table.py)."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hpcsynapse.table import KEY, TEXT, Cell, Column, Columns

_TEX = {letter: "\\" + letter for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "µ": r"$\mu$",
    "[": "{[}",  # behind the end of a row it would begin an option
}


def to_csv(rows: Iterable[Any], known: Columns) -> str:
    """Return RFC 4180 CSV with all columns; numbers in full precision, unknown values empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(known)
    writer.writerows([value_of(row, name) for name in known] for row in rows)
    return text.getvalue()


def to_json(rows: Iterable[Any], known: Columns) -> str:
    """Return a JSON list with one object per row; what is unknown, nan or infinite is null."""
    return json_text([{name: value_of(row, name) for name in known} for row in rows])


def json_text(document: Any) -> str:
    """Return JSON that every program reads: nan and the infinities, which JSON does not have, are null."""
    return json.dumps(_without_nan(document), indent=1, allow_nan=False) + "\n"


def to_markdown(rows: Sequence[Any], known: Columns) -> str:
    """Return a Markdown table, rounded for people; columns without any value are left out."""
    shown, cells = filled(rows, known)
    lines = [
        [one.head for one in shown],
        ["---:" if one.unit.right else "---" for one in shown],
        *[[str(cell).replace("|", "\\|") for cell in line] for line in cells],
    ]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def to_latex(rows: Sequence[Any], known: Columns) -> str:
    r"""Return a tabular of the package booktabs, rounded for people, and what is equal in all rows as a comment."""
    shown, cells, same = folded(rows, known)
    table = [[_tex(one.head) for one in shown], *(map(_tex_cell, line) for line in cells)]
    lines = [" & ".join(line) + r" \\" for line in table]
    alike = [f"% in all rows: {_tex(same)}"] if same else []
    kinds = "".join("r" if one.unit.right else "l" for one in shown)
    body = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join(["% needs \\usepackage{booktabs}", *alike, *body, r"\end{tabular}"]) + "\n"


def to_text(rows: Sequence[Any], known: Columns, width: int | None = None) -> str:
    """Return an aligned table for a terminal of so many columns (None: of any width), rounded for people.

    What is equal in all rows stands above it, what had no room is named below.
    """
    shown, cells, same = folded(rows, known)
    texts, widths, kept, missing = _fitting(shown, cells, width)
    lines = []
    for line in ([one.head for one in shown], *texts):
        parts = (
            line[index].rjust(widths[index]) if shown[index].unit.right else line[index].ljust(widths[index])
            for index in kept
        )
        lines.append("  ".join(parts).rstrip())
    above = [f"in all rows: {same}"] if same else []
    below = [f"no room for: {', '.join(missing)} (--csv has all columns)"] if missing else []
    return "\n".join([*_wrapped(above, width), *lines, *_wrapped(below, width)]) + "\n"


WRITERS: dict[str, Callable[[Sequence[Any], Columns], str]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "latex": to_latex,
    "text": to_text,
}


def documentation(known: Columns) -> str:
    """Return what the columns mean as a Markdown table: names in CSV, JSON and DataFrames, headings, meanings."""
    lines = ["| column | heading | meaning |", "|---|---|---|"]
    for one in known.values():
        base, _, end = one.name.rpartition("_")
        of_interval = end in ("low", "high") and base in known and known[base].interval
        head = one.head if one.shown else "in brackets" if of_interval else "not shown"
        lines.append(f"| `{one.name}` | {head} | {one.meaning} |")
    return "\n".join(lines) + "\n"


def folded(rows: Sequence[Any], known: Columns) -> tuple[list[Column], list[list[Cell]], str]:
    """Return the columns that differ between rows, their cells row by row, and in words what is equal in all rows.

    Of a single row these are the texts without which it could not be told apart. A table keeps one column at least.
    """
    shown, cells = filled(rows, known)
    same = [
        index
        for index, one in enumerate(shown)
        if not one.always
        and len({line[index] for line in cells}) == 1
        and (len(rows) > 1 or (one.unit is TEXT and one.priority == KEY))
    ]
    if len(same) == len(shown):
        same = same[1:]
    words = ", ".join(f"{shown[index].head} {cells[0][index]}" for index in same)
    kept = [index for index in range(len(shown)) if index not in same]
    return [shown[index] for index in kept], [[line[index] for index in kept] for line in cells], words


def filled(rows: Sequence[Any], known: Columns) -> tuple[list[Column], list[list[Cell]]]:
    """Return the columns for people that have a value in any row, and the cells row by row."""
    shown = [
        one
        for one in known.values()
        if one.shown and (one.always or not rows or any(value_of(row, one.name) not in (None, "") for row in rows))
    ]
    return shown, [[_cell(row, one) for one in shown] for row in rows]


def _cell(row: Any, one: Column) -> Cell:
    ends = (value_of(row, f"{one.name}_low"), value_of(row, f"{one.name}_high")) if one.interval else (None, None)
    return one.unit.show(value_of(row, one.name), ends)


def value_of(row: Any, name: str) -> Any:
    """Return what a row, a dataclass or a mapping, has in a column."""
    return row[name] if isinstance(row, Mapping) else getattr(row, name)


def _fitting(
    shown: Sequence[Column], cells: Sequence[Sequence[Cell]], width: int | None
) -> tuple[list[list[str]], list[int], list[int], list[str]]:
    """Return cells as texts, the widths of all columns, which of these fit, and what there is no room for.

    Columns of the lowest priority are left out, of equal ones the last; if that is not enough, intervals as well.
    """
    texts = [list(map(str, line)) for line in cells]
    kept, widths = list(range(len(shown))), _widths(shown, texts)
    least = sorted(
        (index for index in kept if shown[index].priority < KEY), key=lambda index: (-shown[index].priority, index)
    )
    while width is not None and least and _width(widths, kept) > width:
        kept.remove(least.pop())
    missing = [one.head for index, one in enumerate(shown) if index not in kept]
    if width is not None and _width(widths, kept) > width and any(cell.interval for line in cells for cell in line):
        texts = [[cell.number + cell.suffix for cell in line] for line in cells]
        widths, missing = _widths(shown, texts), [*missing, "intervals"]
    return texts, widths, kept, missing


def _widths(shown: Sequence[Column], texts: Sequence[Sequence[str]]) -> list[int]:
    return [max([len(one.head), *(len(line[index]) for line in texts)]) for index, one in enumerate(shown)]


def _width(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[index] + 2 for index in kept) - 2


def _wrapped(lines: Sequence[str], width: int | None) -> list[str]:
    if width is None:
        return list(lines)
    wrap = textwrap.TextWrapper(max(width, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [part for line in lines for part in wrap.wrap(line)]


def _without_nan(document: Any) -> Any:
    if isinstance(document, Mapping):
        return {key: _without_nan(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [_without_nan(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def _tex(text: str) -> str:
    """Return a text as LaTeX prints it; what stands in records is from outside."""
    return "".join(_TEX.get(letter, letter if letter.isprintable() else " ") for letter in text)


def _tex_cell(cell: Cell) -> str:
    suffix = r"$\times$" if cell.suffix == "x" else _tex(cell.suffix)
    return _tex(cell.number) + suffix + _tex(cell.interval)
