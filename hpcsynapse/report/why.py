"""Why a larger point is less efficient: where the rank-seconds of a sample went, from N ranks to more.

Every rank-second of a measured step belongs to one part. Ranks that reach a collective early wait in it for the last
one, so the time that they all spend there is split: `imbalance` is the mean over ranks of what the last rank's time
outside of communication, in the step and between it and the one before, is longer than their own (never more than was
spent in communication), `communication` is the
rest, which would be left if all were equally fast. `other` lies between the phases. Where nobody waits for the others
(asynchronous strategies) nothing is imbalance. Under local SGD ranks meet every few steps, and what they wait for then
beyond the last step's own difference counts as communication.

The parts up to `between steps` are of the measured steps, so that the efficiency that they give is that of a scaling
report: both are made of the time that passed per sample. The others are of the whole run: what warm-up took longer than
the same samples would have later, the pauses that a program marks, ranks that had ended before the last one, and
start-up, spread over all samples of the run. All parts x samples = ranks x (start-up + the time from the first step to
the end of the last step or pause). Start-up is left out where one of the two does not know it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcsynapse.errors import RecordError
from hpcsynapse.report.compared import Compared
from hpcsynapse.report.loaded import LoadedRun
from hpcsynapse.report.points import Point
from hpcsynapse.report.reduced import Measured
from hpcsynapse.table import FRACTION, KEY, SECONDS, column, columns
from hpcsynapse.timing import PHASES

PARTS = {
    "input": "waiting for data, and moving it to the device",
    "compute": "forward, backward and update",
    "communication": "exchange that nothing hides",
    "imbalance": "waiting for the last rank",
    "other": "in a step, between the phases",
    "between steps": "from the end of a step to the next one, no marked pause",
    "warm-up": "what the first steps took longer than the same samples did later",
    "validation": "marked pauses for it",
    "checkpoint": "marked pauses for it",
    "restart": "from one start of the job to the next, with the steps that were made twice",
    "other pauses": "all other pauses that the program marked, and steps that are not used",
    "idle": "waiting at the end for the last rank, where ranks do not wait at every step",
    "start-up": "from the start of the job to the first step",
}
_STEPS = 6  # parts that are of the measured steps
_RARE = tuple(PARTS)[_STEPS:-1]  # shown to people only where there is something of them
_COMMUNICATE = PHASES.index("communicate")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPart:
    """One part of the loss of one point; the fields, in this order, are the columns. Times are rank-seconds a sample.

    The last part, `total`, is the sum of those before it.
    """

    strategy: str = column("how the ranks worked together", priority=KEY)
    engine: str = column("what moved the data", priority=KEY)
    model: str = column("model, or the program of a user's own command", priority=KEY)
    data: str = column("data set", priority=KEY)
    settings: str = column("settings that tell this curve from others", priority=KEY)
    scaling: str = column("strong: equal global batch; weak: equal batch per rank")
    nodes: int = column("nodes", shown=False)
    ranks: int = column("ranks that trained", priority=KEY)
    batch_per_rank: float = column("samples of a rank in a step, median", shown=False)
    baseline_strategy: str = column("strategy of the point compared with", head="baseline", priority=3)
    baseline_ranks: int = column("ranks of the point compared with", priority=8)
    part: str = column(
        "where rank-seconds went: " + "; ".join(f"{name}: {text}" for name, text in PARTS.items()),
        priority=KEY,
        always=True,
    )
    baseline_s: float = column("rank-seconds per sample of the point compared with", head="at baseline", unit=SECONDS)
    point_s: float = column("rank-seconds per sample of this point", head="here", unit=SECONDS)
    lost_s: float = column("their difference", unit=SECONDS, priority=7)
    share: float = column(
        "lost_s / all of this point's rank-seconds; of the total: 1 - efficiency", unit=FRACTION, priority=8
    )


COLUMNS = columns(LossPart)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The loss from one point to another: rank-seconds per sample in the order of PARTS, start-up only if known."""

    baseline: Point
    point: Point
    kind: str
    before: Floats
    after: Floats
    settings: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(PARTS)[: len(self.after)]

    @property
    def lost(self) -> Floats:
        """Rank-seconds per sample lost, by part."""
        return self.after - self.before

    @property
    def shown(self) -> list[tuple[str, float, float]]:
        """The parts that people are shown, before and after: not those that are rare and are not there."""
        found = zip(self.parts, self.before, self.after, strict=True)
        return [
            (part, float(before), float(after)) for part, before, after in found if part not in _RARE or before or after
        ]

    @property
    def efficiency(self) -> float:
        """What is left of the baseline's efficiency in the whole run, with start-up where it is known."""
        return float(self.before.sum() / self.after.sum())

    @property
    def efficiency_of_steps(self) -> float:
        """The same of the measured steps alone: that of a scaling report."""
        return float(self.before[:_STEPS].sum() / self.after[:_STEPS].sum())

    def breakdown(self) -> list[LossPart]:
        """Return a row for every part, then their total."""
        about, whole = self.point.first.run.about, float(self.after.sum())
        values = [
            *zip(self.parts, self.before, self.after, self.lost, strict=True),
            ("total", self.before.sum(), self.after.sum(), self.lost.sum()),
        ]
        return [
            LossPart(
                strategy=about.strategy,
                engine=about.engine,
                model=about.model,
                data=about.data,
                settings=self.settings,
                scaling=self.kind,
                nodes=self.point.nodes,
                ranks=self.point.ranks,
                batch_per_rank=self.point.batch_per_rank,
                baseline_strategy=self.baseline.first.run.about.strategy,
                baseline_ranks=self.baseline.ranks,
                part=part,
                baseline_s=float(before),
                point_s=float(after),
                lost_s=float(lost),
                share=float(lost) / whole,
            )
            for part, before, after, lost in values
        ]


def losses(compared: Iterable[Compared], from_baseline: bool = False) -> list[Loss]:
    """Return the loss of every point from the next smaller number of ranks, else (or if asked) from the baseline."""
    found = []
    for one in compared:
        points = sorted({id(point): point for point in (one.baseline, *one.points)}.values(), key=_size)
        for point in points:
            smaller = [other for other in points if other.ranks < point.ranks]
            before = smaller[-1] if smaller and not from_baseline else one.baseline
            if point is not before and point is not one.baseline:
                found.append(_loss(before, point, one))
    return found


def _size(point: Point) -> tuple[int, int]:
    return point.ranks, point.nodes


def _loss(baseline: Point, point: Point, one: Compared) -> Loss:
    before, after = spent(baseline), spent(point)
    known = min(len(before), len(after))
    return Loss(
        baseline=baseline, point=point, kind=one.kind, before=before[:known], after=after[:known], settings=one.settings
    )


def spent(point: Point) -> Floats:
    """Return rank-seconds per sample in the order of PARTS, mean over repeats; start-up where all of them know it."""
    found = [_spent(measured) for measured in point.repeats]
    known = min(map(len, found))
    return np.asarray(np.mean([one[:known] for one in found], axis=0))


def phase_times(measured: Measured) -> Floats:
    """Return the mean seconds of a rank's step in each of PHASES and between them, shape (6,)."""
    run = measured.run
    if run.about.asynchronous:
        phases, total = run.worker_spent[: len(PHASES)], float(run.worker_spent[len(PHASES)])
        count = max(1, run.worker_steps * run.about.ranks)
    else:
        phases, total = run.phases[measured.keep].sum(axis=0), float(run.total[measured.keep].sum())
        count = int(measured.keep.sum())
    phases = np.nan_to_num(phases, nan=0.0, posinf=0.0, neginf=0.0)
    return np.append(phases, max(0.0, total - float(phases.sum()))) / count


def step_times(measured: Measured) -> dict[str, float]:
    """Return the mean seconds of a rank's step by phase; what is spent in the collective as exchange and waiting."""
    data, forward, backward, communicate, update, other = map(float, phase_times(measured))
    waiting = _waiting(measured)
    return {
        "data": data,
        "forward": forward,
        "backward": backward,
        "waiting": waiting,
        "exchange": communicate - waiting,
        "update": update,
        "other": other,
    }


def _spent(measured: Measured) -> Floats:
    run = measured.run
    times = step_times(measured)
    if run.about.asynchronous:
        step = run.worker_counted / max(1, run.worker_steps)
        period = float(run.worker_spent[-1]) / max(1, run.worker_steps * run.about.ranks)
    else:
        step, period = float(run.samples[measured.keep].mean()), float(measured.period.mean())
    if step <= 0:
        raise RecordError(f"{run.about.name}: its records count no samples, so there is no time of a sample")
    compute = times["forward"] + times["backward"] + times["update"]
    inside = [times["data"], compute, times["exchange"], times["waiting"], times["other"]]
    parts = np.array([*inside, period - sum(inside)]) * run.about.ranks / step
    return np.concatenate((parts, _of_whole(run, float(parts.sum()))))


def _of_whole(run: LoadedRun, of_steps: float) -> Floats:
    """Return rank-seconds per sample of the parts that are of the whole run, when steps alone take `of_steps`."""
    if not run.counted or not run.whole_s:
        return np.zeros(len(PARTS) - _STEPS - 1)
    share = run.about.ranks / run.counted
    steps = run.whole_s - float(run.pauses.sum()) - run.idle_s
    found = [steps * share - of_steps, *(run.pauses * share), run.idle_s * share]
    return np.array(found if run.start_up_s is None else [*found, run.start_up_s * share])


def _waiting(measured: Measured) -> float:
    """Return the mean seconds of a step that a rank waited for the last one."""
    run = measured.run
    if run.about.asynchronous:
        return 0.0
    communicate = np.nan_to_num(run.phases[measured.keep, _COMMUNICATE])
    passed = np.maximum(run.period, run.total)[measured.keep]
    early = run.latest[measured.keep] - (passed - communicate)
    return float(np.clip(early, 0.0, communicate).mean())
