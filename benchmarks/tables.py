"""The tables of docs/performance.md, made from the results' JSON; `scripts/column-tables` writes them there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Interval = Mapping[str, float]


def table(path: Path) -> str:
    """Return the results in a file as Markdown: a table, and what the figures depend on."""
    results = json.loads(path.read_text(encoding="utf-8"))
    lines = [*_TABLES[path.stem](results), "", f"*{_about(results)}*"]
    return "\n".join(lines) + "\n"


def _about(results: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in results.get("versions", {}).items())
    told = [f"Measured {results['date']}", f"Python {results['python']}", f"{results['cpus']} cores"]
    torch = [f"torch {results['torch']}"] if "torch" in results else []
    told += [*torch, *([versions] if versions else []), f"load {results['load']:g} by other work at the end"]
    return ", ".join(told) + "."


def _figure(value: Interval, scale: float = 1.0) -> str:
    """Return a median with its interval, to three digits."""
    median, low, high = (f"{value[name] * scale:,.3g}" for name in ("median", "low", "high"))
    return f"{_plain(median)} ({_plain(low)} to {_plain(high)})"


def _plain(text: str) -> str:
    return f"{float(text.replace(',', '')):,.0f}" if "e" in text else text


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _peers(results: Mapping[str, Any]) -> list[str]:
    head = ["task", "program", "processor time [ms]", "peer / hpcsynapse"]
    return _rows(
        head,
        (
            [row["task"], row["program"], _figure(row["cpu_s"], 1e3), _figure(row["ratio"]) if row["ratio"] else ""]
            for row in results["rows"]
        ),
    )


def _command_line(results: Mapping[str, Any]) -> list[str]:
    times = _rows(
        ["command", "processor time [ms]"],
        ([f"`{name}`", _figure(row["cpu_s"], 1e3)] for name, row in results["commands"].items()),
    )
    compared = _rows(["compared", "median"], ([name, _figure(value)] for name, value in results["compared"].items()))
    return [*times, "", *compared]


def _trainer(results: Mapping[str, Any]) -> list[str]:
    head = ["engine", "ranks", "step by hand [ms]", "tax [us]", "control [us]", "by hand / trainer"]
    return _rows(
        head,
        (
            [
                row["engine"],
                str(row["ranks"]),
                _figure(row["hand_cpu_s"], 1e3),
                _figure(row["tax_cpu_s"], 1e6),
                _figure(row["control_cpu_s"], 1e6),
                _figure(row["ratio_cpu"]),
            ]
            for row in results["rows"]
        ),
    )


def _growth(results: Mapping[str, Any]) -> list[str]:
    def points(curve: Mapping[str, Any]) -> str:
        return "; ".join(f"{one['size']:,}: {one['cpu_s']['median'] * 1e3:,.0f}" for one in curve["points"])

    return _rows(
        ["what", "size", "processor time [ms] by size", "exponent"],
        ([one["name"], one["unit"], points(one), f"{one['exponent']:.2f}"] for one in results["curves"]),
    )


def _startup(results: Mapping[str, Any]) -> list[str]:
    beyond = results["beyond_s"]
    return _rows(
        ["what", "processor time [s]", "beyond the script alone [s]"],
        (
            [name, _figure(value), _figure(beyond[name]) if name in beyond else ""]
            for name, value in results["cpu_s"].items()
        ),
    )


def _parameter_server(results: Mapping[str, Any]) -> list[str]:
    names = ("ratio_cpu", "control_cpu", "ratio", "control")
    head = ["MB", "momentum", "echo / served, processor time", "its control", "echo / served, clock", "its control"]
    return _rows(
        head,
        ([str(row["mb"]), f"{row['momentum']:g}", *(_figure(row[name]) for name in names)] for row in results["bytes"]),
    )


_TABLES: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "peers": _peers,
    "command_line": _command_line,
    "trainer": _trainer,
    "growth": _growth,
    "startup": _startup,
    "parameter_server": _parameter_server,
}
