"""A report as CSV, JSON, Markdown, LaTeX and a table for the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpcsynapse.report import convergence, dual, points, traffic

_RATIOS = ("speedup", "amdahl_speedup", "usl_speedup", "measured_speedup")
_FRACTIONS = (
    "efficiency", "accuracy", "target", "final_accuracy", "accuracy_at_equal_samples", "accuracy_at_equal_exchanges",
    "dead", "left_out_error", "amdahl_left_out_error", "usl_left_out_error",
    "share", "excess", "last", "error", "reference_accuracy", "candidate_accuracy",
)  # fmt: skip
_SECONDS = (
    "step_time_s", "epoch_time_s", "start_up_s", "time_to_target_s", "seconds", "compute_s", "communicate_s",
    "baseline_s", "point_s", "lost_s", "before_s", "delay_s", "reference_step_time_s", "candidate_step_time_s",
)  # fmt: skip
_TEXTS = (
    "strategy",
    "engine",
    "model",
    "data",
    "baseline_strategy",
    "scaling",
    "settings",
    "flags",
    "run",
    "host",
    "processes",
    "counted",
    "transport",
    "verdict",
    "part",
    "device",
    "device_name",
    "phase",
    "devices",
    "last_seen",
)


_TEX = {letter: "\\" + letter for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}",  # behind the end of a row it would begin an option
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """A kind of table: all columns, and those for people as heading and field; an interval is set behind its value."""

    columns: tuple[str, ...]
    shown: tuple[tuple[str, str], ...]


SCALING = Layout(tuple(points.COLUMNS), (
    ("strategy", "strategy"),
    ("engine", "engine"),
    ("model", "model"),
    ("data", "data"),
    ("scaling", "scaling"),
    ("nodes", "nodes"),
    ("ranks", "ranks"),
    ("against", "baseline_strategy"),
    ("baseline", "baseline_ranks"),
    ("batch/rank", "batch_per_rank"),
    ("runs", "repeats"),
    ("steps", "steps"),
    ("warm-up", "warmup_steps"),
    ("step time", "step_time_s"),
    ("epoch time", "epoch_time_s"),
    ("samples/s", "throughput"),
    ("speedup", "speedup"),
    ("efficiency", "efficiency"),
    ("start-up", "start_up_s"),
    ("accuracy", "accuracy"),
    ("remarks", "flags"),
))  # fmt: skip
COMPARED = Layout((*SCALING.columns, "source"), (("source", "source"), *SCALING.shown))
CONVERGENCE = Layout(tuple(convergence.COLUMNS), (
    ("strategy", "strategy"),
    ("engine", "engine"),
    ("model", "model"),
    ("data", "data"),
    ("nodes", "nodes"),
    ("ranks", "ranks"),
    ("batch/rank", "batch_per_rank"),
    ("runs", "repeats"),
    ("target", "target"),
    ("reached", "reached"),
    ("samples to it", "samples_to_target"),
    ("time to it", "time_to_target_s"),
    ("at the end", "final_accuracy"),
    ("samples/s", "throughput"),
    ("settings", "settings"),
))  # fmt: skip

TRAFFIC = Layout(tuple(traffic.COLUMNS), (
    ("run", "run"),
    ("strategy", "strategy"),
    ("nodes", "nodes"),
    ("host", "host"),
    ("processes", "processes"),
    ("sent MB/s", "sent_mb_s"),
    ("received MB/s", "received_mb_s"),
    ("sent MB", "sent_mb"),
    ("received MB", "received_mb"),
    ("over", "seconds"),
    ("counted", "counted"),
))  # fmt: skip


DUAL = Layout(tuple(dual.COLUMNS), (
    ("run", "run"),
    ("strategy", "strategy"),
    ("transport", "transport"),
    ("exchanges", "exchanges"),
    ("samples", "samples"),
    ("accuracy", "accuracy"),
    ("at equal samples", "accuracy_at_equal_samples"),
    ("at equal exchanges", "accuracy_at_equal_exchanges"),
    ("loss net1", "net1_loss"),
    ("loss net2", "net2_loss"),
    ("norm at first", "norm_first"),
    ("norm", "norm"),
    ("dead", "dead"),
    ("verdict", "verdict"),
    ("bytes to net2", "bytes_forward"),
    ("bytes back", "bytes_back"),
    ("memory net1", "net1_memory"),
    ("memory net2", "net2_memory"),
    ("on device net1", "net1_device_memory"),
    ("on device net2", "net2_device_memory"),
    ("batch single", "single_batch"),
    ("batch net1", "net1_batch"),
    ("batch net2", "net2_batch"),
))  # fmt: skip


def to_csv(rows: Iterable[Any], layout: Layout = SCALING) -> str:
    """Return RFC 4180 CSV with all columns; numbers in full precision, unknown values empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(layout.columns)
    for row in rows:
        writer.writerow(_table(row).values())
    return text.getvalue()


def to_json(rows: Iterable[Any], layout: Layout = SCALING) -> str:
    """Return a JSON list with one object per row; unknown values are null."""
    return json.dumps([_table(row) for row in rows], indent=1, allow_nan=False) + "\n"


def to_markdown(rows: Sequence[Any], layout: Layout = SCALING) -> str:
    """Return a Markdown table, rounded for people."""
    headings, cells, right = cells_of(rows, layout)
    rule = ["---:" if is_right else "---" for is_right in right]
    lines = [headings, rule, *[[cell.replace("|", "\\|") for cell in row] for row in cells]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def to_latex(rows: Sequence[Any], layout: Layout = SCALING) -> str:
    r"""Return a tabular of the package booktabs, rounded for people."""
    headings, cells, right = cells_of(rows, layout)
    lines = [" & ".join(map(_tex, line)) + r" \\" for line in [headings, *cells]]
    columns = "".join("r" if is_right else "l" for is_right in right)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join(["% needs \\usepackage{booktabs}", *body, r"\end{tabular}"]) + "\n"


def _tex(text: str) -> str:
    """Return a text as LaTeX prints it; what stands in records is from outside."""
    return "".join(_TEX.get(letter, letter if letter.isprintable() else " ") for letter in text)


def to_terminal(rows: Sequence[Any], layout: Layout = SCALING) -> str:
    """Return an aligned table, rounded for people; columns without any value are left out."""
    headings, cells, right = cells_of(rows, layout)
    widths = [max(len(line[index]) for line in [headings, *cells]) for index in range(len(headings))]
    lines = []
    for line in [headings, *cells]:
        parts = zip(line, widths, right, strict=True)
        lines.append("  ".join(cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in parts))
    return "".join(line.rstrip() + "\n" for line in lines)


WRITERS: dict[str, Callable[[Sequence[Any], Layout], str]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "latex": to_latex,
    "text": to_terminal,
}


def _table(row: Any) -> dict[str, Any]:
    return dict(row) if isinstance(row, Mapping) else asdict(row)


def cells_of(rows: Sequence[Any], layout: Layout) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return headings, the cells of every row, and which columns hold numbers; columns without a value are left out."""
    tables = [_table(row) for row in rows]
    shown = [(title, name) for title, name in layout.shown if any(table[name] not in (None, "") for table in tables)]
    cells = [[_cell(table, name) for _, name in shown] for table in tables]
    return [title for title, _ in shown], cells, [name not in _TEXTS for _, name in shown]


def _cell(table: dict[str, Any], name: str) -> str:
    value = table[name]
    if value is None or value == "":
        return "-"
    low, high = table.get(f"{name}_low"), table.get(f"{name}_high")
    interval = "" if low is None or low == high else f" [{_number(name, low)}, {_number(name, high)}]"
    return _number(name, value) + interval


def _number(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (str, int)):
        return str(value)
    if name in _FRACTIONS:
        return f"{100 * value:.1f}%"
    if name in _RATIOS:
        return f"{value:.2f}x"
    if name in _SECONDS:
        return _seconds(value)
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def _seconds(value: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if abs(value) < limit:
            return f"{value * factor:.4g} {unit}"
    return f"{value:.4g} s" if value < 10_000 else f"{value:.0f} s"
