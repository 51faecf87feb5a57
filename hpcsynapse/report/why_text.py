"""How the loss of efficiency is told to people: a small table for every loss, and its title."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

from hpcsynapse import writers
from hpcsynapse.report.points import Point
from hpcsynapse.report.why import COLUMNS, Loss, LossPart
from hpcsynapse.table import Columns, Unit


def to_text(found: Iterable[Loss], notes: Callable[[Point], Iterable[str]] = lambda _: ()) -> str:
    """Return a small table for every loss, with its efficiency and the `notes` on its larger point below."""
    blocks = []
    for loss in found:
        lines = writers.to_text(*table_of(loss)).splitlines()
        notes_below = (left(loss), *notes(loss.point))
        blocks.append("\n".join([title(loss), *(f"  {line}" for line in (*lines, *notes_below))]))
    return "\n\n".join(blocks) + "\n"


def table_of(loss: Loss) -> tuple[list[LossPart], Columns]:
    """Return the rows and columns of a loss for people: parts, rank-time per sample in one unit, and shares."""
    rows = loss.breakdown()
    factor, name = _unit(max(rows[-1].baseline_s, rows[-1].point_s))
    time = Unit(((math.inf, factor, ""),), decimals=3)
    changed: dict[str, dict[str, Any]] = {
        "part": {"head": f"rank-{name} per sample"},
        "baseline_s": {"head": _ranks(loss.baseline), "unit": time},
        "point_s": {"head": _ranks(loss.point), "unit": time},
        "lost_s": {"unit": time},
        "share": {},
    }
    known = {key: dataclasses.replace(COLUMNS[key], always=True, **change) for key, change in changed.items()}
    shown = {part for part, _, _ in loss.shown} | {"total"}
    return [row for row in rows if row.part in shown], known


def title(loss: Loss) -> str:
    """Return what a loss is about."""
    about = loss.point.first.run.about
    subject = ", ".join(part for part in (about.strategy, about.engine, about.model, about.data, loss.settings) if part)
    return f"{subject}: {_ranks(loss.point)} after {_ranks(loss.baseline, about.strategy)} ({loss.kind} scaling)"


def left(loss: Loss) -> str:
    """Return what is left of the efficiency: of the measured steps, as in a scaling report, and of the whole run."""
    whole = "warm-up, pauses and start-up" if "start-up" in loss.parts else "warm-up and pauses"
    return (
        f"efficiency {100 * loss.efficiency_of_steps:.1f}% of that of {_ranks(loss.baseline)}, "
        f"{100 * loss.efficiency:.1f}% with {whole}"
    )


def _ranks(point: Point, beside: str = "") -> str:
    strategy = point.first.run.about.strategy
    name = f" ({strategy})" if beside and strategy != beside else ""
    return f"{point.ranks} rank{'s' if point.ranks != 1 else ''}{name}"


def _unit(seconds: float) -> tuple[float, str]:
    """Return factor and name of a unit in which a time has digits before the point."""
    return next(
        ((10.0**digits, name) for digits, name in ((0, "seconds"), (3, "milliseconds")) if seconds * 10.0**digits >= 1),
        (1e6, "microseconds"),
    )
