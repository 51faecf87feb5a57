"""Reports for the page: what `report`, `report why`, `report stragglers` and `predict scaling` say, by the same code.

They read the records of whole runs, so an answer is kept until a run changes, and one is made at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from hpcsynapse.errors import RecordError, RunNotFoundError, SpecError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.tables import Table, no_table, table_of

if TYPE_CHECKING:
    from hpcsynapse.report.scaling import Report

MOST_RUNS = 500  # of one report
_KEPT = 32  # answers
_FRESH = 20.0  # seconds for which the answer about a run that goes on is kept
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class SlowRank:
    """A rank that is slow: what is to be said of it."""

    rank: int
    host: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Stragglers:
    """The ranks of a run by their time before the collective, who of them is slow, and what cannot be told."""

    slow: list[SlowRank]
    remarks: list[str]
    table: Table


@dataclass(frozen=True, slots=True)
class ScalingMark:
    """A point of a scaling report: ranks, speedup and efficiency (a fraction), with their intervals where known."""

    series: str
    ranks: int
    speedup: float
    speedup_low: float | None
    speedup_high: float | None
    efficiency: float
    efficiency_low: float | None
    efficiency_high: float | None


@dataclass(frozen=True, slots=True)
class ScalingAnswer:
    """The scaling report of runs: in sentences, as a table, as points for a plot, and where the time went."""

    summary: list[str]
    caveats: list[str]
    warnings: list[str]
    hints: list[str]
    table: Table
    marks: list[ScalingMark]
    why: list[Table]
    slow: list[str]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What more ranks would bring, for one strategy, model and data that were measured."""

    sentences: list[str]
    table: Table


@dataclass(frozen=True, slots=True)
class Predictions:
    """What more ranks would bring, or in words why that cannot be told."""

    remark: str
    found: list[Prediction]


class _Kept:
    """Answers that are kept for as long as what they are of does not change."""

    def __init__(self) -> None:
        self._lock, self._answers = Lock(), dict[Any, tuple[Any, float, Any]]()

    def get(self, key: Any, stamp: Any, make: Callable[[], Answer]) -> Answer:
        """Return the answer that was made of the same, else make it; an error is kept as well."""
        with self._lock:
            before, made, answer = self._answers.pop(key, (None, 0.0, None))
            if before != stamp and (before is None or time.monotonic() - made > _FRESH):
                try:
                    answer = make()
                except (RecordError, SpecError) as error:
                    answer = error
                before, made = stamp, time.monotonic()
            self._answers[key] = before, made, answer
            while len(self._answers) > _KEPT:
                del self._answers[next(iter(self._answers))]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]  # what `make` returned


_KEPT_ANSWERS = _Kept()


def stragglers(index: RunIndex, name: str) -> Stragglers:
    """Return which ranks of a run are slow, by how much, in what, and how sure that is."""
    run = index.find(name)
    try:
        return _KEPT_ANSWERS.get((str(run.path), "stragglers"), _stamp([run]), lambda: _stragglers(run))
    except RecordError as error:  # of a run that has not done a step, as many
        return Stragglers([], [str(error)], no_table())


def _stragglers(run: RunDirectory) -> Stragglers:
    from hpcsynapse.report.loading import load
    from hpcsynapse.report.stragglers import COLUMNS, rank_times, without_phases

    loaded = load(run)
    ranks = rank_times(loaded)
    slow = [SlowRank(one.rank, one.host, one.sentence()) for one in ranks if one.slow]
    remarks = without_phases(loaded) or ([] if ranks else ["its ranks cannot be compared with one another"])
    return Stragglers(slow, remarks, table_of("Time of every rank before the collective", ranks, COLUMNS, fold=True))


def report(index: RunIndex, name: list[str]) -> ScalingAnswer:
    """Return speedup and efficiency of runs and studies, and where the time went."""
    names, runs = _meant(index, name)
    try:
        return _KEPT_ANSWERS.get((*names, "report"), _stamp(runs), lambda: _report(index, names))
    except (RecordError, SpecError) as error:
        return ScalingAnswer([], [], [str(error)], [], no_table(), [], [], [])


def _meant(index: RunIndex, names: Sequence[str]) -> tuple[list[str], list[RunDirectory]]:
    """Return names of runs and studies as a report takes them, and all their runs; raises for every other text."""
    if not names:
        raise SpecError("parameter name is missing")
    studies = index.studies()
    found = []
    for name in names:
        found += studies[name].runs() if name in studies else [index.find(name)]
    if len(found) > MOST_RUNS:
        raise SpecError(f"{len(found)} runs are too many for the page, at most {MOST_RUNS}; use hpcsynapse report")
    return [name if name in studies else str(index.find(name).path) for name in names], found


def _scaling(index: RunIndex, names: list[str]) -> tuple[Report, list[Any], list[Any]]:
    from hpcsynapse.report.loading import load
    from hpcsynapse.report.scaling import scaling_report
    from hpcsynapse.report.sources import sources_of

    warnings: list[str] = []
    sources, kind = sources_of(names, index.folder, warnings.append)
    loaded = [load(source) for source in sources]
    found = scaling_report(loaded, kind)
    found.warnings = [*warnings, *found.warnings]
    return found, loaded, sources


def _report(index: RunIndex, names: list[str]) -> ScalingAnswer:
    from hpcsynapse.report.advice import advices
    from hpcsynapse.report.measured import caveats
    from hpcsynapse.report.page import summary
    from hpcsynapse.report.points import COLUMNS
    from hpcsynapse.report.stragglers import rank_times
    from hpcsynapse.report.why import losses
    from hpcsynapse.report.why_text import left, title
    from hpcsynapse.report.why_text import table_of as why_table

    found, loaded, _ = _scaling(index, names)
    return ScalingAnswer(
        summary=summary(found),
        caveats=caveats(found.points),
        warnings=found.warnings,
        hints=advices(found.compared),
        table=table_of("Speedup and efficiency, 95 % intervals in brackets", found.points, COLUMNS, fold=True),
        marks=[_mark(point) for point in found.points],
        why=[table_of(f"{title(one)}: {left(one)}", *why_table(one)) for one in losses(found.compared)],
        slow=[f"{one.run}: {one.sentence()}" for run in loaded for one in rank_times(run) if one.slow],
    )


def _mark(point: Any) -> ScalingMark:
    words = (point.strategy, point.engine, point.model, point.settings)
    return ScalingMark(
        series=", ".join(word for word in words if word),
        ranks=point.ranks,
        speedup=point.speedup,
        speedup_low=point.speedup_low,
        speedup_high=point.speedup_high,
        efficiency=point.efficiency,
        efficiency_low=point.efficiency_low,
        efficiency_high=point.efficiency_high,
    )


def predictions(index: RunIndex, name: list[str]) -> Predictions:
    """Return what more ranks would bring, from the runs of two numbers of ranks or more."""
    names, runs = _meant(index, name)
    try:
        found = _KEPT_ANSWERS.get((*names, "predictions"), _stamp(runs), lambda: _predictions(index, names))
    except (RecordError, SpecError) as error:
        return Predictions(str(error), [])
    return Predictions("", found)


def _predictions(index: RunIndex, names: list[str]) -> list[Prediction]:
    from hpcsynapse.predict.forecast import Forecast, doublings
    from hpcsynapse.predict.measured_curves import of_report
    from hpcsynapse.predict.rows import COLUMNS, rows
    from hpcsynapse.predict.summary import sentences

    found, loaded, sources = _scaling(index, names)
    answer = []
    for curve in of_report(found.compared, dict(zip(map(id, loaded), sources, strict=True)), None):
        forecast = Forecast(curve)
        most = forecast.most if curve.scaling == "strong" and curve.batches_known else float("inf")
        asked = [count for count in doublings(curve) if forecast.fewest <= count <= most]
        answer.append(Prediction(list(sentences(forecast)), table_of(curve.title, rows(forecast, asked), COLUMNS)))
    return answer


def _stamp(runs: Sequence[RunDirectory]) -> list[tuple[str, float, int]]:
    """Return what changes when a run has recorded something, or was begun again."""
    found = []
    for run in runs:
        try:
            files = [path.stat() for path in run.timings.iterdir()]
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                raise RunNotFoundError(f"run {run.name}: {error.strerror}") from None
            files = []
        found.append((run.name, max((one.st_mtime for one in files), default=0.0), sum(one.st_size for one in files)))
    return found
