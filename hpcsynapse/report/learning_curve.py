"""The learning curve of a run: the metrics of every validation, after so many samples and so much training time.

Time is training time: it begins with the first TRAINING of the run, behind start-up, and pauses for validation and
checkpoints (EVALUATING, SAVING), as a strategy is not to be judged by how often somebody looks. Where other workers
train on meanwhile (parameter servers that do not wait for all of them) the clock runs on too, as the model grows
better in that time; and as workers there are not equally far, samples are counted from the step records of all of
them. A run that was started more than once has no time, as nobody knows how long it stood still.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.report.describe import RunDescription
from hpcsynapse.report.loading import DTYPE
from hpcsynapse.report.offsets import correction_of
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import parts
from hpcsynapse.runs.states import RunState

_PAUSES = (RunState.EVALUATING, RunState.SAVING)
_PLACES = ("time", "step", "epoch", "samples")  # of a line of the file; all other numbers in it are metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One validation: samples of all ranks and training time (s, None: not known) until then, and its metrics."""

    samples: int
    time_s: float | None
    metrics: Mapping[str, float]


def curve(run: RunDirectory, about: RunDescription) -> list[CurvePoint]:
    """Return the learning curve of a run; empty when nothing was validated."""
    apart = others_go_on(run, about)
    clock = _TrainingClock(run.read_history(), pauses=not apart)
    counted = _samples_by_time(run) if apart else None
    found = []
    for record in run.read_metrics():
        numbers = {key: value for key in record if (value := _number(record, key)) is not None}
        metrics = {key: value for key, value in numbers.items() if key not in _PLACES}
        if metrics and "samples" in numbers and "time" in numbers:
            when = numbers["time"]
            samples = counted(clock.began(when)) if counted else int(numbers["samples"])
            found.append(CurvePoint(samples=samples, time_s=clock.until(when), metrics=metrics))
    return found


def with_metric(name: str, points: Sequence[CurvePoint], metric: str) -> list[CurvePoint]:
    """Return the validations of a run that tell a metric.

    Raises SpecError, naming those there are, for one that it does not have, and RecordError where it has none at all.
    """
    found = [point for point in points if metric in point.metrics]
    if not found:
        said = f"{name}: no {metric} was recorded on the way"
        if known := ", ".join(dict.fromkeys(key for point in points for key in point.metrics)):
            raise SpecError(f"{said}; recorded are {known}")
        raise RecordError(f"{said}; validations write it: train.validate_every")
    return found


def others_go_on(run: RunDirectory, about: RunDescription) -> bool:
    """Tell whether some workers of a run train on while one of them validates."""
    if about.strategy == "ps-async":
        return about.ranks > 1
    if about.strategy == "mixed":
        return about.nodes > 1
    if about.strategy == "ps-sync":
        needed = run.load_spec().ps.needed
        return needed is not None and needed < about.ranks
    return False


def _samples_by_time(run: RunDirectory) -> Callable[[float], int]:
    """Return what tells the samples of all steps that had ended at a time (Unix time)."""
    found = parts(run.timings)
    correct = correction_of(run.timings, found)
    by_part = [(part, np.frombuffer(part.read(), DTYPE)) for part in found]
    ends = np.concatenate([correct(part, own["start"]) + own["total"] for part, own in by_part])
    records = np.concatenate([own for _, own in by_part])
    order = np.argsort(ends)
    ends, counts = ends[order], np.concatenate(([0], np.cumsum(records["samples"][order], dtype=np.int64)))
    return lambda when: int(counts[np.searchsorted(ends, when, side="right")])


class _TrainingClock:
    """Counts training time by the states that a run went through."""

    def __init__(self, history: Iterable[Mapping[str, Any]], pauses: bool) -> None:
        self._entries = [
            (str(entry["state"]), float(entry["time"]))
            for entry in history
            if isinstance(entry.get("time"), (int, float))
        ]
        self._pauses = pauses
        states = [state for state, _ in self._entries]
        begun = states.index("TRAINING") if "TRAINING" in states else len(states)
        self._known = begun < len(states) and "SETUP" not in states[begun:]

    def began(self, when: float) -> float:
        """Return when a validation began that was over at `when` (Unix time)."""
        before = [entry for entry in self._entries if entry[1] <= when]
        return before[-1][1] if before and before[-1][0] in _PAUSES else when

    def until(self, when: float) -> float | None:
        """Return the training time (s) at which a validation began that was over at `when` (Unix time), or None."""
        if not self._known:
            return None
        passed, since, begin = 0.0, None, None
        for state, time in self._entries:
            if time > when:
                break
            if state == "TRAINING":
                begin, since = begin or time, since or time
            elif since is not None:
                passed, since = passed + max(0.0, time - since), None
        if begin is None:
            return None
        if since is not None:  # a validation that the history does not know
            passed += max(0.0, when - since)
        return passed if self._pauses else max(0.0, self.began(when) - begin)


def _number(record: Mapping[str, Any], key: str) -> float | None:
    value = record.get(key)
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None  # type: ignore[arg-type]  # checked above
