"""A scaling report as CSV, JSON, Markdown and a table for the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from hpcsynapse.report.points import COLUMNS, ScalingPoint

_RATIOS = ("speedup",)
_FRACTIONS = ("efficiency", "accuracy")
# Columns of the tables for people: heading, and the field it shows (an interval is set behind its value).
_SHOWN = (
    ("strategy", "strategy"),
    ("engine", "engine"),
    ("model", "model"),
    ("data", "data"),
    ("scaling", "scaling"),
    ("nodes", "nodes"),
    ("ranks", "ranks"),
    ("baseline", "baseline_ranks"),
    ("batch/rank", "batch_per_rank"),
    ("runs", "repeats"),
    ("steps", "steps"),
    ("step time", "step_time_s"),
    ("epoch time", "epoch_time_s"),
    ("samples/s", "throughput"),
    ("speedup", "speedup"),
    ("efficiency", "efficiency"),
    ("start-up", "start_up_s"),
    ("accuracy", "accuracy"),
    ("remarks", "flags"),
)
_TEXTS = ("strategy", "engine", "model", "data", "scaling", "flags")


def to_csv(points: Iterable[ScalingPoint]) -> str:
    """Return RFC 4180 CSV with all columns; numbers in full precision, unknown values empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for point in points:
        writer.writerow(asdict(point).values())
    return text.getvalue()


def to_json(points: Iterable[ScalingPoint]) -> str:
    """Return a JSON list with one object per row; unknown values are null."""
    return json.dumps([asdict(point) for point in points], indent=1, allow_nan=False) + "\n"


def to_markdown(points: Sequence[ScalingPoint]) -> str:
    """Return a Markdown table, rounded for people."""
    headings, rows, right = _cells(points)
    rule = ["---:" if is_right else "---" for is_right in right]
    lines = [headings, rule, *[[cell.replace("|", "\\|") for cell in row] for row in rows]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def to_terminal(points: Sequence[ScalingPoint]) -> str:
    """Return an aligned table, rounded for people; columns without any value are left out."""
    headings, rows, right = _cells(points)
    widths = [max(len(line[index]) for line in [headings, *rows]) for index in range(len(headings))]
    lines = []
    for line in [headings, *rows]:
        cells = zip(line, widths, right, strict=True)
        lines.append("  ".join(cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in cells))
    return "".join(line.rstrip() + "\n" for line in lines)


WRITERS: dict[str, Callable[[Sequence[ScalingPoint]], str]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "text": to_terminal,
}


def _cells(points: Sequence[ScalingPoint]) -> tuple[list[str], list[list[str]], list[bool]]:
    tables = [asdict(point) for point in points]
    shown = [(title, name) for title, name in _SHOWN if any(table[name] not in (None, "") for table in tables)]
    rows = [[_cell(table, name) for _, name in shown] for table in tables]
    return [title for title, _ in shown], rows, [name not in _TEXTS for _, name in shown]


def _cell(table: dict[str, Any], name: str) -> str:
    value = table[name]
    if value is None or value == "":
        return "-"
    low, high = table.get(f"{name}_low"), table.get(f"{name}_high")
    interval = "" if low is None or low == high else f" [{_number(name, low)}, {_number(name, high)}]"
    return _number(name, value) + interval


def _number(name: str, value: Any) -> str:
    if isinstance(value, (str, int)):
        return str(value)
    if name in _FRACTIONS:
        return f"{100 * value:.1f}%"
    if name in _RATIOS:
        return f"{value:.2f}x"
    if name in ("step_time_s", "epoch_time_s", "start_up_s"):
        return _seconds(value)
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def _seconds(value: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if value < limit:
            return f"{value * factor:.4g} {unit}"
    return f"{value:.4g} s" if value < 10_000 else f"{value:.0f} s"
