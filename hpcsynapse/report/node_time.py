"""What a node did in one start of a run, in parts that add up to the time it was allocated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcsynapse.report.sums import Floats, Records
from hpcsynapse.timing import PAUSE, cause_of

USEFUL, SAVE, VALIDATION, DETECTION, RESTART, REPLAYED, WAITING = range(7)
_OF_PAUSE = {"checkpoint": SAVE, "validation": VALIDATION, "restart": RESTART}


def spent(
    lives: Sequence[Records], begun: float, ended: float, kept: float, failed: float | None = None, lost: bool = False
) -> Floats:
    """Return the seconds of a node between two points in time by part, shape (7,); their sum is `ended - begun`.

    `lives` are the records of one rank there, one array for every time that it was started. Steps from the number
    `kept` on were lost. `failed` is when the failure was put on record, None for none; a node that was `lost` without
    such a record was gone from its last step on. What passes between two steps belongs to the later one, what passes
    before a pause to the step before that.
    """
    parts, last, began = np.zeros(7), begun, False
    for records in lives:
        for part, seconds, end in _of_life(records, last, ended, kept):
            parts[part] += seconds
            last, began = end, True
    if not began:
        noticed = ended if failed is None else min(max(failed, begun), ended)
        parts[RESTART], parts[WAITING] = noticed - begun, ended - noticed
        return parts
    noticed = last if failed is None else min(max(failed, last), ended)
    parts[DETECTION] += (ended if lost else noticed) - last
    parts[WAITING] += 0.0 if lost else ended - noticed
    return parts


def _of_life(records: Records, begun: float, ended: float, kept: float) -> list[tuple[int, float, float]]:
    """Return (part, seconds, end of the last record) of what a rank recorded in one life, from `begun` on."""
    total = records["total"].astype(np.float64)
    usable = (total > 0) & (total < np.inf) & np.isfinite(records["start"])
    records, total = records[usable], total[usable]
    if not len(records):
        return []
    ends = np.maximum.accumulate(np.clip(records["start"] + total, begun, ended))
    starts = np.clip(records["start"], begun, ends)
    before = np.concatenate(([starts[0]], ends[:-1]))
    pause = (records["flags"] & PAUSE) != 0
    of_steps = np.where(records["step"] >= kept, REPLAYED, USEFUL)
    part = of_steps.copy()
    part[pause] = [_OF_PAUSE.get(cause_of(int(flags)), WAITING) for flags in records["flags"][pause]]
    # A gap before a pause is the training's: of the step before, or of the start where there was none.
    newest = np.maximum.accumulate(np.where(pause, -1, np.arange(len(records))))
    gap_part = np.where(newest < 0, RESTART, of_steps[newest])
    gap = np.where(pause, np.maximum(starts, before) - before, 0.0)
    own = ends - before - gap
    found = np.zeros(7)
    np.add.at(found, part, own)
    np.add.at(found, gap_part, gap)
    found[RESTART] += starts[0] - begun
    return [(index, float(seconds), float(ends[-1])) for index, seconds in enumerate(found)]
