"""Figures that others have published, to be set beside one's own; published.toml holds them with their sources."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import nearest
from hpcsynapse.report.from_table import MEASURES, Row, points_of
from hpcsynapse.report.points import ScalingPoint, column

OWN = "own"
_EFFICIENCY = "efficiency"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPoint(ScalingPoint):
    """A row of a scaling report with published figures beside it: the same columns, and where it is from."""

    source: str = column(f"{OWN}, or who published it")


def names() -> list[str]:
    """Return the names under which figures are shipped."""
    return list(_shipped())


def published(name: str) -> tuple[str, list[ComparedPoint]]:
    """Return the citation of published figures and their scaling report; raises SpecError listing the names."""
    shipped = _shipped()
    if name not in shipped:
        raise SpecError(f"--against {name!r}: known are {', '.join(shipped)}{nearest(name, shipped)}")
    entry = shipped[name]
    return entry["citation"], [point for series in entry["series"] for point in _points(name, series)]


def own(points: Iterable[ScalingPoint]) -> list[ComparedPoint]:
    """Return rows of one's own in the same form."""
    return [ComparedPoint(**asdict(point), source=OWN) for point in points]


def _shipped() -> dict[str, Any]:
    return tomllib.loads(files("hpcsynapse.report").joinpath("published.toml").read_text(encoding="utf-8"))


def _points(name: str, series: dict[str, Any]) -> list[ComparedPoint]:
    measure = next(key for key in (*MEASURES, _EFFICIENCY) if key in series)
    relative = measure == _EFFICIENCY
    per_node, group = series.get("per_node"), (series["strategy"], str(series["batch"]), series["model"])
    rows = [
        Row(group, int(ranks), math.ceil(int(ranks) / per_node) if per_node else None,
            value * int(ranks) if relative else value)
        for ranks, value in series[measure].items()
    ]  # fmt: skip
    points = points_of(name, "images_per_s" if relative else measure, rows)
    return [
        replace(
            ComparedPoint(**asdict(point), source=series["source"]), engine=series["engine"], data=series["data"],
            flags="", throughput=None if relative else point.throughput,
        )
        for point in points
    ]  # fmt: skip
