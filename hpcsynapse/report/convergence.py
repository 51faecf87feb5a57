"""Learning curves: how many samples, and how much time, a run took to reach a target accuracy.

Samples are those that all ranks trained on, up to the first validation whose accuracy was the target or more; there is
nothing between two validations, so figures are as fine as `train.validate_every`.

Time is training time: it begins with the first TRAINING of the run, behind start-up, and pauses for validation and
checkpoints (EVALUATING, SAVING), as a strategy is not to be judged by how often somebody looks. Where other workers
train on meanwhile (parameter servers that do not wait for all of them) the clock runs on too, as the model grows
better in that time; and as workers there are not equally far, samples are counted from the step records of all of
them. A run that was started more than once has no time, as nobody knows how long it stood still.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.records import parts
from hpcsynapse.report.describe import RunDescription
from hpcsynapse.report.loading import DTYPE, LoadedRun
from hpcsynapse.report.points import Measured, column
from hpcsynapse.rundir import RunDirectory
from hpcsynapse.training import SERVED

_PAUSES = ("EVALUATING", "SAVING")
# Settings that say nothing about how fast a run learns, or stand in columns of their own.
_TOLD = {
    ("train", name)
    for name in (
        "strategy", "engine", "model", "data", "batch", "seed", "epochs", "steps", "tensorboard", "keep_checkpoints",
        "checkpoint_every", "record_warmup",
    )
}  # fmt: skip
Settings = frozenset[tuple[str, str]]
Repeat = tuple[Measured, "list[CurvePoint]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One validation of a run; the fields, in this order, are the columns of a table of curves. None: not known."""

    run: str = column("name of the run")
    strategy: str = column("how the ranks worked together")
    engine: str = column("what moved the data")
    ranks: int = column("ranks that trained")
    samples: int = column("samples that all ranks had trained on")
    time_s: float | None = column("training time until then")
    accuracy: float = column("accuracy on the test data, a fraction")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvergencePoint:
    """One row of a convergence report; the fields, in this order, are its columns. None: not reached, or not known."""

    strategy: str = column("how the ranks worked together")
    engine: str = column("what moved the data")
    model: str = column("model")
    data: str = column("data set")
    nodes: int = column("nodes")
    ranks: int = column("ranks that trained")
    batch_per_rank: float = column("samples of a rank in a step, median")
    settings: str = column("settings of the training in which it differs from rows that are otherwise alike")
    repeats: int = column("runs combined in this row")
    target: float = column("accuracy to be reached, a fraction")
    reached: int = column("runs that reached it")
    samples_to_target: float | None = column("samples of all ranks until then, median over the runs")
    time_to_target_s: float | None = column("training time until then, median over the runs")
    final_accuracy: float = column("accuracy at the end, mean over the runs")
    throughput: float = column("samples per second of all ranks")


COLUMNS = {item.name: item.metadata["meaning"] for item in dataclasses.fields(ConvergencePoint)}


def convergence_report(runs: Iterable[tuple[RunDirectory, LoadedRun]], target: float) -> list[ConvergencePoint]:
    """Return one row per strategy, engine, model, data, batch, number of ranks, and settings of the training.

    Raises SpecError for a target that is no fraction, RecordError for a run without a learning curve.
    """
    if not 0 < target <= 1:
        raise SpecError(f"--target {target:g}: give the accuracy as a fraction, above 0 and at most 1")
    alike: dict[tuple[Any, ...], dict[Settings, list[Repeat]]] = {}
    for run, loaded in runs:
        about, measured = loaded.about, Measured(loaded)
        key = (about.model, about.data, about.strategy, about.engine, measured.global_batch, about.ranks, about.nodes,
               about.hardware, about.threads)  # fmt: skip
        repeats = alike.setdefault(key, {}).setdefault(_settings(run, about.strategy.partition("+")[0]), [])
        repeats.append((measured, curve(run, about)))
    rows = []
    for _, groups in sorted(alike.items()):
        shared = frozenset.intersection(*groups)
        named = {", ".join(f"{name}={value}" for name, value in sorted(one - shared)): one for one in groups}
        rows += [_row(groups[one], text, target) for text, one in sorted(named.items())]
    return rows


def _settings(run: RunDirectory, strategy: str) -> Settings:
    """Return the settings that a strategy takes as (name, value), but the seed, and what a row tells anyway."""
    try:
        table = tomllib.loads(run.run_toml.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(
        (f"{section}.{name}", str(value))
        for section in ("train", "ps" if strategy in SERVED else "dual" if strategy == "admm" else "exchange")
        for name, value in table.get(section, {}).items()
        if (section, name) not in _TOLD
    )  # fmt: skip


def curve(run: RunDirectory, about: RunDescription) -> list[CurvePoint]:
    """Return the learning curve of a run; raises RecordError when it has none."""
    apart = others_go_on(run, about)
    clock = _TrainingClock(run.read_history(), pauses=not apart)
    counted = _samples_by_time(run) if apart else None
    found = []
    for record in run.read_metrics():
        accuracy, samples, when = (_number(record, key) for key in ("accuracy", "samples", "time"))
        if accuracy is not None and samples is not None and when is not None:
            found.append(CurvePoint(
                run=run.name, strategy=about.strategy, engine=about.engine, ranks=about.ranks,
                samples=counted(clock.began(when)) if counted else int(samples), time_s=clock.until(when),
                accuracy=accuracy,
            ))  # fmt: skip
    if not found:
        raise RecordError(f"{run.name}: no accuracy was recorded on the way (train.validate_every, or the model's own "
                          "metrics); convergence cannot be reported")  # fmt: skip
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
    records = np.concatenate([np.frombuffer(part.read(), DTYPE) for part in parts(run.timings)])
    ends = records["start"] + records["total"]
    order = np.argsort(ends)
    ends, counts = ends[order], np.concatenate(([0], np.cumsum(records["samples"][order], dtype=np.int64)))
    return lambda when: int(counts[np.searchsorted(ends, when, side="right")])


class _TrainingClock:
    """Counts training time by the states that a run went through."""

    def __init__(self, history: Iterable[Mapping[str, Any]], pauses: bool) -> None:
        self._entries = [(str(entry["state"]), float(entry["time"])) for entry in history
                         if isinstance(entry.get("time"), (int, float))]  # fmt: skip
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


def _row(repeats: list[Repeat], settings: str, target: float) -> ConvergencePoint:
    measured = repeats[0][0]
    about = measured.run.about
    firsts = [next((point for point in points if point.accuracy >= target), None) for _, points in repeats]
    batch = measured.global_batch / about.ranks
    return ConvergencePoint(
        strategy=about.strategy,
        engine=about.engine,
        model=about.model,
        data=about.data,
        nodes=about.nodes,
        ranks=about.ranks,
        batch_per_rank=int(batch) if batch == int(batch) else batch,
        settings=settings,
        repeats=len(repeats),
        target=target,
        reached=sum(first is not None for first in firsts),
        samples_to_target=_median([None if first is None else first.samples for first in firsts]),
        time_to_target_s=_median([None if first is None else first.time_s for first in firsts]),
        final_accuracy=sum(points[-1].accuracy for _, points in repeats) / len(repeats),
        throughput=math.exp(sum(math.log(one.throughput) for one, _ in repeats) / len(repeats)),
    )


def _median(values: list[float | None]) -> float | None:
    """Return the median, in which a run that did not reach the target took for ever; None when it is such a run's."""
    found = median(math.inf if value is None else value for value in values)
    return found if found < math.inf else None
