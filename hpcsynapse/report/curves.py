"""Training curves of a run: loss while it trained and error on the test data, by time and by samples.

Loss is that of the step records, mean over ranks and over equal stretches of the run; its time is the sum of step
times, without what lies between steps. Error is 1 - accuracy at every validation, its time as convergence.py counts it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcsynapse.errors import RecordError
from hpcsynapse.report.convergence import curve
from hpcsynapse.report.loading import LoadedRun
from hpcsynapse.rundir import RunDirectory

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
    time, samples = np.cumsum(run.slowest), np.cumsum(run.samples)
    stretches = np.array_split(np.arange(len(run.loss)), min(STRETCHES, len(run.loss)))
    ends = [stretch[-1] for stretch in stretches]
    return _known(time[ends], samples[ends], np.array([run.loss[stretch].mean() for stretch in stretches]))


def error_curve(run: LoadedRun) -> Curve:
    """Return the error on the test data, a fraction; empty where nothing was validated."""
    try:
        points = curve(run.source, run.about) if isinstance(run.source, RunDirectory) else []
    except RecordError:
        points = []
    times = np.array([np.nan if point.time_s is None else point.time_s for point in points])
    return _known(times, np.array([point.samples for point in points]), np.array([1 - one.accuracy for one in points]))


def _known(time: Floats, samples: Floats, value: Floats) -> Curve:
    """Return the points whose value and samples are known; a time that is not known at all is 0 everywhere."""
    kept = np.isfinite(value) & np.isfinite(samples)
    time = time[kept]
    return Curve(np.zeros(len(time)) if np.isnan(time).any() else time, samples[kept], value[kept])
