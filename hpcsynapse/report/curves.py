"""Training curves of a run: loss while it trained and the metrics of its validations, by time and by samples.

The training loss is that of the step records, mean over ranks and over equal stretches of the run; its time is the sum
of step times, without what lies between steps. Time and samples of a validation are those of learning_curve.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.learning_curve import CurvePoint, curve
from hpcsynapse.report.loading import LoadedRun
from hpcsynapse.runs.directory import RunDirectory

STRETCHES = 60
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity after so many seconds and samples of all ranks; three arrays of one length, nothing in them is nan."""

    time: Floats
    samples: Floats
    value: Floats


def loss_curve(run: LoadedRun) -> Curve:
    """Return the training loss; empty where none was recorded."""
    if run.about.asynchronous:
        width = float(run.start[1] - run.start[0])
        time = (np.arange(len(run.loss)) + 0.5) * width
        return _known(time, np.cumsum(run.rates) * width, run.loss)
    time, samples = np.cumsum(run.period), np.cumsum(run.samples)
    stretches = np.array_split(np.arange(len(run.loss)), min(STRETCHES, len(run.loss)))
    ends = [stretch[-1] for stretch in stretches]
    return _known(time[ends], samples[ends], np.array([run.loss[stretch].mean() for stretch in stretches]))


def validation_curves(run: LoadedRun) -> dict[str, Curve]:
    """Return every metric of the validations by name; none where nothing was validated."""
    points = curve(run.source, run.about) if isinstance(run.source, RunDirectory) else []
    names = dict.fromkeys(name for point in points for name in point.metrics)
    return {name: _metric([point for point in points if name in point.metrics], name) for name in names}


def _metric(points: list[CurvePoint], name: str) -> Curve:
    times = np.array([np.nan if point.time_s is None else point.time_s for point in points])
    return _known(
        times, np.array([point.samples for point in points]), np.array([point.metrics[name] for point in points])
    )


def _known(time: Floats, samples: Floats, value: Floats) -> Curve:
    """Return the points whose value and samples are known; a time that is not known at all is 0 everywhere."""
    kept = np.isfinite(value) & np.isfinite(samples)
    time = time[kept]
    return Curve(np.zeros(len(time)) if np.isnan(time).any() else time, samples[kept], value[kept])
