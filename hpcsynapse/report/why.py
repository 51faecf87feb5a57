"""Why a larger point is less efficient: where the rank-seconds of a sample went, from N ranks to more.

Every rank-second of a measured step belongs to one part. Ranks that reach a collective early wait in it for the last
one, so the time that they all spend there is split: `imbalance` is the mean over ranks of what the last rank's time
outside of communication is longer than their own (never more than was spent in communication), `communication` is the
rest, which would be left if all were equally fast. `other` lies between the phases. Where nobody waits for the others
(asynchronous strategies) nothing is imbalance. Under local SGD ranks meet every few steps, and what they wait for then
beyond the last step's own difference counts as communication.

The parts are means over steps, as only means add up: lost rank-seconds per sample = those of the point - those of the
baseline, part by part, and efficiency = those of the baseline / those of the point. It differs from a scaling report's
efficiency, which is made of medians, by what single slow steps cost. Start-up is spread over all samples of the run,
and is left out where one of the two does not know it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpcsynapse.errors import RecordError
from hpcsynapse.report.points import Measured, Point, column
from hpcsynapse.report.scaling import Compared
from hpcsynapse.timing import PHASES

PARTS = {
    "input": "waiting for data, and moving it to the device",
    "compute": "forward, backward and update",
    "communication": "exchange that nothing hides",
    "imbalance": "waiting for the last rank",
    "other": "between the phases",
    "start-up": "from the start of the job to the first step, spread over all samples",
}
_STEPS = len(PARTS) - 1  # all parts but start-up
_COMMUNICATE = PHASES.index("communicate")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPart:
    """One part of the loss of one point; the fields, in this order, are the columns. Times are rank-seconds a sample.

    The last part, `total`, is the sum of those before it.
    """

    strategy: str = column("how the ranks worked together")
    engine: str = column("what moved the data")
    model: str = column("model, or the program of a user's own command")
    data: str = column("data set")
    scaling: str = column("strong: equal global batch; weak: equal batch per rank")
    nodes: int = column("nodes")
    ranks: int = column("ranks that trained")
    batch_per_rank: float = column("samples of a rank in a step, median")
    baseline_strategy: str = column("strategy of the point compared with")
    baseline_ranks: int = column("ranks of the point compared with")
    part: str = column("where rank-seconds went: " + "; ".join(f"{name}: {text}" for name, text in PARTS.items()))
    baseline_s: float = column("rank-seconds per sample of the point compared with")
    point_s: float = column("rank-seconds per sample of this point")
    lost_s: float = column("their difference")
    share: float = column("lost_s / all of this point's rank-seconds; of the total: 1 - efficiency")


COLUMNS: dict[str, str] = {item.name: item.metadata["meaning"] for item in dataclasses.fields(LossPart)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The loss from one point to another: rank-seconds per sample in the order of PARTS, start-up only if known."""

    baseline: Point
    point: Point
    kind: str
    before: Floats
    after: Floats

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(PARTS)[: len(self.after)]

    @property
    def lost(self) -> Floats:
        """Rank-seconds per sample lost, by part."""
        return self.after - self.before

    @property
    def efficiency(self) -> float:
        """What is left of the baseline's efficiency, with start-up where it is known."""
        return float(self.before.sum() / self.after.sum())

    @property
    def efficiency_of_steps(self) -> float:
        """The same without start-up."""
        return float(self.before[:_STEPS].sum() / self.after[:_STEPS].sum())

    def rows(self) -> list[LossPart]:
        """Return a row for every part, then their total."""
        about, whole = self.point.first.run.about, float(self.after.sum())
        values = [*zip(self.parts, self.before, self.after, self.lost, strict=True),
                  ("total", self.before.sum(), self.after.sum(), self.lost.sum())]  # fmt: skip
        return [
            LossPart(
                strategy=about.strategy,
                engine=about.engine,
                model=about.model,
                data=about.data,
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
                found.append(_loss(before, point, one.kind))
    return found


def _size(point: Point) -> tuple[int, int]:
    return point.ranks, point.nodes


def _loss(baseline: Point, point: Point, kind: str) -> Loss:
    before, after = spent(baseline), spent(point)
    known = min(len(before), len(after))
    return Loss(baseline=baseline, point=point, kind=kind, before=before[:known], after=after[:known])


def spent(point: Point) -> Floats:
    """Return rank-seconds per sample in the order of PARTS, mean over repeats; start-up where all of them know it."""
    found = [_spent(measured) for measured in point.repeats]
    known = min(map(len, found))
    return np.asarray(np.mean([one[:known] for one in found], axis=0))


def phase_times(measured: Measured) -> Floats:
    """Return the mean seconds of a rank's step in each of PHASES and between them, shape (6,)."""
    run = measured.run
    if run.about.asynchronous:
        phases, total = run.worker_spent[:-1], float(run.worker_spent[-1])
        count = max(1, run.worker_steps * run.about.ranks)
    else:
        phases, total = run.phases[measured.keep].sum(axis=0), float(run.total[measured.keep].sum())
        count = int(measured.keep.sum())
    phases = np.nan_to_num(phases, nan=0.0, posinf=0.0, neginf=0.0)
    return np.append(phases, max(0.0, total - float(phases.sum()))) / count


def _spent(measured: Measured) -> Floats:
    run = measured.run
    data, forward, backward, communicate, update, other = phase_times(measured)
    waiting = _waiting(measured)
    if run.about.asynchronous:
        every, step = run.worker_counted, run.worker_counted / max(1, run.worker_steps)
    else:
        every, step = float(run.samples.sum()), float(run.samples[measured.keep].mean())
    if step <= 0:
        raise RecordError(f"{run.about.name}: its records count no samples, so there is no time of a sample")
    parts = np.array([data, forward + backward + update, communicate - waiting, waiting, other])
    parts *= run.about.ranks / step
    return parts if run.start_up_s is None else np.append(parts, run.about.ranks * run.start_up_s / every)


def _waiting(measured: Measured) -> float:
    """Return the mean seconds of a step that a rank waited for the last one."""
    run = measured.run
    if run.about.asynchronous:
        return 0.0
    communicate = np.nan_to_num(run.phases[measured.keep, _COMMUNICATE])
    early = run.latest[measured.keep] - (run.total[measured.keep] - communicate)
    return float(np.clip(early, 0.0, communicate).mean())


def to_text(found: Iterable[Loss], notes: Callable[[Point], Iterable[str]] = lambda _: ()) -> str:
    """Return a small table for every loss, with its efficiency and the `notes` on its larger point below."""
    blocks = []
    for loss in found:
        headings, rows = cells_of(loss)
        lines = ["  " + f"{line[0]:<28}" + "".join(f"{cell:>12}" for cell in line[1:]) for line in (headings, *rows)]
        blocks.append("\n".join([title(loss), *lines, *(f"  {note}" for note in (left(loss), *notes(loss.point)))]))
    return "\n\n".join(blocks) + "\n"


def cells_of(loss: Loss) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of a loss for people: parts, rank-time per sample in one unit, and shares."""
    rows = loss.rows()
    factor, unit = _unit(max(rows[-1].baseline_s, rows[-1].point_s))
    cells = []
    for row in rows:
        times = [f"{factor * value:.3f}" for value in (row.baseline_s, row.point_s, row.lost_s)]
        share = f"{100 * row.share:.1f}%"
        cells.append([row.part, *("0.000" if time == "-0.000" else time for time in times),
                      "0.0%" if share == "-0.0%" else share])  # fmt: skip
    return [f"rank-{unit} per sample", _ranks(loss.baseline), _ranks(loss.point), "lost", "share"], cells


def title(loss: Loss) -> str:
    """Return what a loss is about."""
    about = loss.point.first.run.about
    subject = ", ".join(part for part in (about.strategy, about.engine, about.model, about.data) if part)
    return f"{subject}: {_ranks(loss.point)} after {_ranks(loss.baseline, about.strategy)} ({loss.kind} scaling)"


def left(loss: Loss) -> str:
    """Return what is left of the efficiency."""
    without = f", {100 * loss.efficiency_of_steps:.1f}% without start-up" if "start-up" in loss.parts else ""
    return f"efficiency {100 * loss.efficiency:.1f}% of that of {_ranks(loss.baseline)}{without}"


def _ranks(point: Point, beside: str = "") -> str:
    strategy = point.first.run.about.strategy
    name = f" ({strategy})" if beside and strategy != beside else ""
    return f"{point.ranks} rank{'s' if point.ranks != 1 else ''}{name}"


def _unit(seconds: float) -> tuple[float, str]:
    """Return factor and name of a unit in which a time has digits before the point."""
    return next(((10.0**digits, name) for digits, name in ((0, "seconds"), (3, "milliseconds"))
                 if seconds * 10.0**digits >= 1), (1e6, "microseconds"))  # fmt: skip
