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
from hpcsynapse.report.from_table import points_of
from hpcsynapse.report.points import ScalingPoint
from hpcsynapse.report.table_rows import MEASURES, Row
from hpcsynapse.runs.class_counts import ClassCounts
from hpcsynapse.table import KEY, column, columns

OWN = "own"
_EFFICIENCY = "efficiency"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPoint(ScalingPoint):
    """A row of a scaling report with published figures beside it: the same columns, and where it is from."""

    source: str = column(f"{OWN}, or who published it", priority=KEY, always=True)


_DECLARED = columns(ComparedPoint)
COLUMNS = {"source": _DECLARED.pop("source"), **_DECLARED}


def names() -> list[str]:
    """Return the names under which figures are shipped."""
    return list(_shipped())


def published(name: str) -> tuple[str, list[ComparedPoint]]:
    """Return the citation of published figures and their scaling report; raises SpecError listing the names."""
    shipped = _shipped()
    if name not in shipped:
        raise SpecError(f"published figures {name!r}: known are {', '.join(shipped)}{nearest(name, shipped)}")
    entry = shipped[name]
    return entry["citation"], [point for series in entry["series"] for point in _points(name, series)]


def own(points: Iterable[ScalingPoint]) -> list[ComparedPoint]:
    """Return rows of one's own in the same form."""
    return [ComparedPoint(**asdict(point), source=OWN) for point in points]


def _shipped() -> dict[str, Any]:
    return tomllib.loads(files("hpcsynapse.report").joinpath("published.toml").read_text(encoding="utf-8"))


def confusion(name: str) -> tuple[str, ClassCounts]:
    """Return the citation of a published confusion matrix and its counts; raises SpecError listing the names."""
    known = [one for one, entry in _shipped().items() if "confusion" in entry]
    if name not in known:
        raise SpecError(f"published confusion matrix {name!r}: known are {', '.join(known)}{nearest(name, known)}")
    entry = _shipped()[name]
    return entry["citation"], ClassCounts.of_matrix(
        entry["confusion"]["matrix"], names=tuple(entry["confusion"]["classes"])
    )


def _points(name: str, series: dict[str, Any]) -> list[ComparedPoint]:
    """Return the report of a series; of one `by_batch`, those of all its batches."""
    if "by_batch" in series:
        return [
            point
            for batch, values in series["by_batch"].items()
            for point in _points(
                name,
                {
                    **{key: value for key, value in series.items() if key != "by_batch"},
                    "batch": batch,
                    series["measure"]: dict(zip(series["setups"], values, strict=True)),
                },
            )
        ]
    measure = next(key for key in (*MEASURES, _EFFICIENCY) if key in series)
    relative = measure == _EFFICIENCY
    rows = [_row(series, setup) for setup in series[measure]]
    points = points_of(name, "images_per_s" if relative else measure, rows)
    return [
        replace(
            ComparedPoint(**asdict(point), source=series["source"]),
            engine=series["engine"],
            data=series["data"],
            flags="",
            throughput=None if relative else point.throughput,
        )
        for point in points
    ]


def _row(series: dict[str, Any], setup: str) -> Row:
    """Return what a series says of a set-up: nodes x ranks on each, or a number of ranks."""
    nodes, _, each = setup.rpartition("x")
    ranks, per_node = int(each) * int(nodes or 1), series.get("per_node")
    values = {measure: float(series[measure][setup]) for measure in MEASURES if measure in series}
    if _EFFICIENCY in series:
        values["images_per_s"] = series[_EFFICIENCY][setup] * ranks
    return Row(
        strategy=series["strategy"],
        model=series["model"],
        batch=str(series["batch"]),
        ranks=ranks,
        nodes=int(nodes) if nodes else math.ceil(ranks / per_node) if per_node else None,
        values=values,
        accuracy=1 - series["error"][setup] if "error" in series else None,
    )
