"""Fitted at small N, held at large N: predictions of published curves against what was published.

    python benchmarks/published_predictions.py          writes the table of docs/prediction.md

Every shipped curve (hpcsynapse/report/published.toml) with four numbers of ranks or more is cut off behind 8, 16 and
32 ranks; what the smaller numbers predict for the larger ones stands beside what was measured. Where all the smaller
ones share one node nothing is predicted. Nothing is measured here, and the same figures come out every time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hpcsynapse.predict.curve import Curve
from hpcsynapse.predict.forecast import Forecast
from hpcsynapse.predict.measured_curves import of_table
from hpcsynapse.report.published import ComparedPoint, names, published

PAGE = Path(__file__).parent.parent / "docs" / "prediction.md"
BEGIN, END = "<!-- held-out: begin -->\n", "<!-- held-out: end -->\n"
CUTS, FEWEST = (8, 16, 32), 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A published point that smaller numbers of ranks predict; `predicted` is None where that is refused."""

    curve: str
    fitted_to: int
    ranks: int
    measured: float
    predicted: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def held(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.low is not None and self.high is not None and self.low <= self.measured <= self.high


def curves() -> Iterator[tuple[str, Curve]]:
    """Yield the shipped curves with enough numbers of ranks."""
    for name in names():
        groups: dict[tuple[object, ...], list[ComparedPoint]] = {}
        for point in published(name)[1]:
            groups.setdefault((point.source, point.model, point.batch_per_rank), []).append(point)
        for (source, model, batch), points in groups.items():
            if len({point.ranks for point in points}) >= FEWEST and all(point.throughput for point in points):
                (curve,) = of_table(points, None)
                yield f"{source}, {model}" + (f", batch {batch}" if batch else ""), curve


def held_out(title: str, curve: Curve) -> Iterator[HeldOut]:
    """Yield the points of a curve behind each cut, predicted from those before it."""
    for cut in CUTS:
        known = tuple(point for point in curve.observations if point.ranks <= cut)
        beyond = [point for point in curve.observations if point.ranks > cut]
        if not beyond or cut > known[-1].ranks:
            continue
        forecast = Forecast(dataclasses.replace(curve, observations=known))
        for point in beyond:
            ranks = np.array([point.ranks], float)
            measured = float(forecast.speedup(ranks, np.array([[point.time]]))[0, 0])
            told = {"curve": title, "fitted_to": cut, "ranks": point.ranks, "measured": measured}
            if forecast.curve.one_node:
                yield HeldOut(**told)
                continue
            low, high = forecast.intervals(ranks, forecast.nodes(ranks))[1][:, 0]
            yield HeldOut(**told, predicted=float(forecast.speedups(ranks)[0]), low=float(low), high=float(high))


def all_held_out() -> list[HeldOut]:
    """Return all predictions."""
    return [one for title, curve in curves() for one in held_out(title, curve)]


def table(found: list[HeldOut]) -> str:
    """Return the table of the documentation, with a sentence that counts it."""
    told = [one for one in found if one.predicted is not None]
    errors = sorted(abs(one.predicted / one.measured - 1) for one in told if one.predicted is not None)
    lines = [
        f"{sum(one.held for one in told)} of {len(told)} published points lie in the 95 % interval of their "
        f"prediction; the median error is {100 * errors[len(errors) // 2]:.0f} %. {len(found) - len(told)} predictions "
        "are refused, as the points before them share one node.",
        "",
        "| curve | fitted to ranks up to | ranks | published speedup | predicted | 95 % interval | error | |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for one in found:
        figures = f"| {one.curve} | {one.fitted_to} | {one.ranks} | {one.measured:.1f} "
        if one.predicted is None:
            lines.append(figures + "| - | - | - | refused: one node |")
        else:
            held = "held" if one.held else "missed"
            error = f"{100 * (one.predicted / one.measured - 1):+.0f} %"
            lines.append(figures + f"| {one.predicted:.1f} | {one.low:.1f} to {one.high:.1f} | {error} | {held} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + table(all_held_out()) + END + after, encoding="utf-8")
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
