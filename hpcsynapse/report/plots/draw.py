"""All plots that the figures of a report allow, and the files they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hpcsynapse.report.convergence import ACCURACY
from hpcsynapse.report.curves import loss_curve, validation_curves
from hpcsynapse.report.drift import drift_of
from hpcsynapse.report.node_tables import curves as over_time
from hpcsynapse.report.node_tables import node_tables
from hpcsynapse.report.plots import batches, classes, curves, scaling, steps
from hpcsynapse.report.plots import drift as drifts
from hpcsynapse.report.plots import staleness as stale
from hpcsynapse.report.plots.series import series_of
from hpcsynapse.report.plots.style import FITS, Fit, Plot, settle, style, to_pdf, to_png, to_svg
from hpcsynapse.report.plots.utilisation import utilisation
from hpcsynapse.report.points import Point
from hpcsynapse.report.scaling import Report
from hpcsynapse.report.staleness import staleness
from hpcsynapse.report.why import Loss
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.telemetry import telemetry

TRAINING = "train_"  # what the names of metrics on training samples begin with
_RUNS, _LEAST = 3, 4  # whose nodes are drawn over time, and the points of such a curve
_DRAWN = (ACCURACY, "loss")  # in the training curves


def draw(report: Report, losses: Sequence[Loss], fit: Fit = FITS["page"]) -> list[Plot]:
    """Return the plots of a report for a place; a table of figures measured elsewhere allows those against ranks."""
    with style(fit):
        series = series_of(report.points)
        found: list[Plot | None] = []
        if any(row.ranks != row.baseline_ranks for row in report.points):
            found += [scaling.speedup(series), scaling.efficiency(series), scaling.throughput(series)]
        found += [scaling.strategies(series), batches.time_by_batch(report.points)]
        points = steps.named_points(report.compared)
        fewer = steps.largest(points)
        found += [steps.step_times(fewer), steps.phases(points), steps.waterfall(losses)]
        found += [*_curves(fewer), _staleness(fewer), _drift(fewer), _confusion(report), _utilisation(fewer)]
        plots = [plot for plot in found if plot is not None]
        for plot in plots:
            settle(plot.figure)
    return plots


def _staleness(points: Sequence[tuple[str, Point]]) -> Plot | None:
    """Return how old gradients were, of the first repeat of every point whose ranks do not wait for one another."""
    told = [
        (name, found)
        for name, point in points
        if point.asynchronous and (found := staleness(point.first.run.source)) is not None
    ]
    return stale.staleness(told)


def _utilisation(points: Sequence[tuple[str, Point]]) -> Plot | None:
    """Return what nodes used and exchanged over time, of the first repeat of the points whose nodes recorded it."""
    runs = [point.first.run.source for _, point in points]
    known = [
        run for run in runs if isinstance(run, RunDirectory) and any(one.count for one in telemetry(run.telemetry))
    ]
    told = [curve for run in known[:_RUNS] for curve in over_time(run.name, node_tables(run))]
    return utilisation([curve for curve in told if len(curve.time) >= _LEAST])


def _drift(points: Sequence[tuple[str, Point]]) -> Plot | None:
    """Return what ranks had drifted apart by, of the first repeat of every point that recorded it."""
    told = [(name, found) for name, point in points if (found := drift_of(point.first.run.source)) is not None]
    return drifts.drift(told)


def _confusion(report: Report) -> Plot | None:
    """Return what the run with the highest accuracy takes for what; None where no run counted classes."""
    runs = [one.run for every in report.compared for point in every.points for one in point.repeats]
    counted = [
        (run.about.accuracy or 0.0, run.about.name, counts)
        for run in runs
        if isinstance(run.source, RunDirectory) and (counts := run.source.read_class_counts())
    ]
    best = max(counted, key=lambda found: found[0], default=None)
    return None if best is None else classes.confusion(best[1], best[2])


def _curves(points: Sequence[tuple[str, Point]]) -> list[Plot | None]:
    """Return the curves of training and of validations."""
    loss = [(name, [loss_curve(one.run) for one in point.repeats]) for name, point in points]
    validations = [(name, [validation_curves(one.run) for one in point.repeats]) for name, point in points]
    names = dict.fromkeys(metric for _, repeats in validations for repeat in repeats for metric in repeat)
    metrics = {
        metric: [(name, [repeat[metric] for repeat in repeats if metric in repeat]) for name, repeats in validations]
        for metric in names
    }
    error = [(name, [replace(one, value=1 - one.value) for one in own]) for name, own in metrics.get(ACCURACY, [])]
    further = [
        (metric, runs, metrics.get(TRAINING + metric, []))
        for metric, runs in metrics.items()
        if not metric.startswith(TRAINING) and (metric not in _DRAWN or TRAINING + metric in metrics)
    ]
    return [curves.training_curves(loss, metrics.get("loss", []), error), curves.metric_curves(further)]


def write(plots: Sequence[Plot], folder: Path) -> list[Path]:
    """Write every plot as PDF, PNG and SVG into a folder, which is made; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in plots:
        for path, content in (
            (folder / f"{plot.name}.pdf", to_pdf(plot)),
            (folder / f"{plot.name}.png", to_png(plot)),
            (folder / f"{plot.name}.svg", to_svg(plot).encode()),
        ):
            path.write_bytes(content)
            written.append(path)
    return written
