"""What a rank's records say of its time: its steps, what passed between them, and the pauses that it marked.

The period of a step is the time from the end of the step before it to its own end, by the rank's own clock, less the
pauses marked in between: what the training took, whatever was done inside the recorded step. Where the step before was
not recorded in the same start of the job, or the clock was set back, the period is the step itself.

Format 2 marks no pauses: what passes between two epochs beyond the usual time between steps counts as one there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.sums import Floats, Records
from hpcsynapse.runs.records import Part
from hpcsynapse.timing import CAUSES, PAUSE, cause_of

WITHOUT_PAUSES = 2  # version of the format
_CLOSE = 1e-3  # relative: a step is not shorter than it says by more than this


class Life(NamedTuple):
    """One part of a rank's records: which start of the job it is from, and which life of the rank within that."""

    part: Part
    start: int
    life: int


@dataclass(frozen=True, slots=True)
class OwnTime:
    """One rank: its usable `records` by step, the start of the job that each is `origin`ally from, and times (s).

    `period` is that of every step; `paused` the pauses marked before it, shape (steps, causes in the order of CAUSES),
    or None where there were none; `after` those behind the last step; `first` and `last` the earliest start and the
    latest end of anything recorded (Unix time); `lives` how many parts there are: starts of the job, or of the rank
    within one; `unusable` the numbers of steps that were recorded without a positive, finite duration.
    """

    records: Records
    origin: npt.NDArray[np.int64]
    period: Floats
    paused: Floats | None
    after: Floats
    first: float
    last: float
    lives: int
    unusable: npt.NDArray[np.uint32]


def own_time(pieces: Sequence[Records], lives: Sequence[Life]) -> OwnTime:
    """Return the time of a rank from its records by part; the last part that has a step counts for it.

    The records are those given, not copied, where there is one part in order.
    """
    split = [_without_pauses(piece, one.part.header.get("version")) for piece, one in zip(pieces, lives, strict=True)]
    records, paused, after, unusable = split[0]
    origin = live = np.full(len(records), lives[0].start)
    if len(split) > 1:
        sizes = [len(one.steps) for one in split]
        records = np.concatenate([one.steps for one in split])
        paused = _joined([(len(one.steps), one.paused) for one in split])
        after = split[int(np.argmax([_ends(one.steps)[1] for one in split]))].after
        unusable = np.setdiff1d(np.concatenate([one.unusable for one in split]), records["step"])
        origin, live = np.repeat([one.start for one in lives], sizes), np.repeat(np.arange(len(sizes)), sizes)
    first, last = _ends(records)
    step = records["step"]
    if not np.all(step[1:] > step[:-1]):
        _, newest = np.unique(step[::-1], return_index=True)
        chosen = len(records) - 1 - newest
        records, origin, live = records[chosen], origin[chosen], live[chosen]
        paused = None if paused is None else paused[chosen]
    last += float(after.sum())
    period = _periods(records, live, paused)
    return OwnTime(records, origin, period, paused, after, first, last, len(lives), unusable)


def periods(records: Records) -> Floats:
    """Return the periods (s) of steps that were recorded one after another in one start, without pauses."""
    return _periods(records, np.zeros(len(records), np.int64), None)


def _ends(records: Records) -> tuple[float, float]:
    if not len(records):
        return np.inf, -np.inf
    return float(records["start"].min()), float((records["start"] + records["total"]).max())


def _joined(pieces: Sequence[tuple[int, Floats | None]]) -> Floats | None:
    if all(paused is None for _, paused in pieces):
        return None
    return np.concatenate([np.zeros((size, len(CAUSES))) if paused is None else paused for size, paused in pieces])


class _Split(NamedTuple):
    """One part of a rank: its steps, the pauses before each, those behind the last, and steps without a duration."""

    steps: Records
    paused: Floats | None
    after: Floats
    unusable: npt.NDArray[np.uint32]


def _without_pauses(records: Records, version: object) -> _Split:
    flags, total = records["flags"], records["total"]
    usable = (total > 0) & (total < np.inf)
    after = np.zeros(len(CAUSES))
    if not len(records) or flags.max() < PAUSE:
        sound = bool(usable.all())
        steps = records if sound else records[usable]
        unusable = np.empty(0, np.uint32) if sound else records["step"][~usable]
        return _Split(steps, _between_epochs(steps) if version == WITHOUT_PAUSES else None, after, unusable)
    pause = (flags & PAUSE) != 0
    place = np.cumsum(usable & ~pause)[pause & usable]  # steps before it in the file
    steps, found = records[usable & ~pause], np.zeros((len(records) + 1, len(CAUSES)))
    causes = [CAUSES.index(cause_of(int(value))) for value in flags[pause & usable]]
    np.add.at(found, (place, causes), total[pause & usable])
    return _Split(steps, found[: len(steps)], found[len(steps)], records["step"][~usable & ~pause])


def _between_epochs(steps: Records) -> Floats | None:
    """Return what passed before the first step of every epoch beyond the usual time between steps, as another pause."""
    changes = np.flatnonzero(steps["epoch"][1:] != steps["epoch"][:-1]) + 1
    if not len(changes):
        return None
    gaps = steps["start"][1:] - (steps["start"] + steps["total"])[:-1]
    paused = np.zeros((len(steps), len(CAUSES)))
    paused[changes, -1] = np.maximum(0.0, gaps[changes - 1] - max(0.0, float(np.median(gaps))))
    return paused


def _periods(records: Records, live: npt.NDArray[np.int64], paused: Floats | None) -> Floats:
    period = records["total"].astype(np.float64)
    if len(records) < 2:
        return period
    own = period[1:]
    end = records["start"] + period
    with np.errstate(invalid="ignore"):
        passed = end[1:] - end[:-1]
        known = passed >= own * (1 - _CLOSE)
    step = records["step"]
    if int(step[-1]) - int(step[0]) != len(step) - 1:
        known &= step[1:] - step[:-1] == 1
    if live.min() != live.max():
        known &= live[1:] == live[:-1]
    if paused is not None:
        passed -= np.minimum(paused[1:].sum(axis=1), passed)
    period[1:] = np.where(known, passed, own)
    return period
