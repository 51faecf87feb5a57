"""All plots that the figures of a report allow, and the files they become."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcsynapse.report.curves import error_curve, loss_curve
from hpcsynapse.report.plots import curves, scaling, steps
from hpcsynapse.report.plots.style import Plot, settle, style, to_png, to_svg
from hpcsynapse.report.scaling import Report
from hpcsynapse.report.why import Loss


def draw(report: Report, losses: Sequence[Loss]) -> list[Plot]:
    """Return the plots of a report; a table of figures measured elsewhere allows those against ranks alone."""
    with style():
        series = scaling.series_of(report.points)
        found: list[Plot | None] = []
        if any(row.ranks != row.baseline_ranks for row in report.points):
            found += [scaling.speedup(series), scaling.efficiency(series), scaling.throughput(series)]
        found.append(scaling.strategies(series))
        points = steps.named_points(report.compared)
        fewer = steps.largest(points)
        found += [steps.step_times(fewer), steps.phases(points), steps.waterfall(losses)]
        loss = [(name, [loss_curve(one.run) for one in point.repeats]) for name, point in fewer]
        error = [(name, [error_curve(one.run) for one in point.repeats]) for name, point in fewer]
        found.append(curves.training_curves(loss, error))
        plots = [plot for plot in found if plot is not None]
        for plot in plots:
            settle(plot.figure)
    return plots


def write(plots: Sequence[Plot], folder: Path) -> list[Path]:
    """Write every plot as PNG and SVG into a folder, which is made; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in plots:
        for path, content in ((folder / f"{plot.name}.png", to_png(plot)),
                              (folder / f"{plot.name}.svg", to_svg(plot).encode())):  # fmt: skip
            path.write_bytes(content)
            written.append(path)
    return written
