"""The steps of a rank or server as slices, from its records."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.report.loading import DTYPE
from hpcsynapse.report.sums import Records
from hpcsynapse.report.trace.events import Nanoseconds, Slices, Thread
from hpcsynapse.runs.records import Part
from hpcsynapse.timing import CAUSES, PAUSE, PHASES, cause_of

SLOW = 1.5  # times the rank's median
LATEST = 4e9  # Unix time; and the longest step: nanoseconds up to twice that fit 64 bits
_SERVERS = 1_000_000  # thread numbers of servers begin here


def thread_of(part: Part) -> Thread:
    """Return the line of a rank or server, within the process that its node is."""
    rank: int = part.header["rank"]
    role = part.header.get("role", "worker")
    worker = role == "worker"
    number = rank if worker else _SERVERS + rank
    return Thread(part.header.get("node_rank", 0), number, f"{'rank' if worker else role} {rank}")


def usable(part: Part) -> Records:
    """Return the records of a part, by time, without those whose times are no times."""
    raw = part.read()
    records = np.frombuffer(raw, DTYPE, len(raw) // DTYPE.itemsize)
    start, total = records["start"], records["total"]
    records = records[(start > 0) & (start < LATEST) & (total >= 0) & (total < LATEST)]
    return records[np.argsort(records["start"], kind="stable")]


def slices_of(records: Records, start: npt.NDArray[np.float64], everywhere: bool, together: int = 1) -> Slices:
    """Return the slices of records that begin at `start` (s since the origin).

    Phases are those of slow steps alone unless they are wanted `everywhere`. Of `together` > 1 so many steps become one
    slice, with the sums of their phases; pauses and slow steps stay by themselves.
    """
    begin = nanoseconds(start)
    end = begin + nanoseconds(records["total"])
    end[:-1] = np.minimum(end[:-1], begin[1:])  # slices of a thread must not overlap; clocks are set back at times
    steps = records["flags"] & PAUSE == 0
    slow = records["total"] > SLOW * float(np.median(records["total"][steps])) if steps.any() else ~steps
    firsts = _firsts(~steps | slow, together) if together > 1 else np.arange(len(records))
    lasts = np.append(firsts[1:], len(records)) - 1
    begin, end = begin[firsts], end[lasts]
    bounds = _bounds(records, firsts, begin, end)
    shown = steps[firsts] & (everywhere | slow[firsts] | (lasts > firsts))
    kinds, kind = np.unique(records["flags"][firsts], return_inverse=True)
    causes = [CAUSES.index(cause_of(flags)) if flags & PAUSE else -1 for flags in kinds.tolist()]
    count = lasts - firsts + 1
    return Slices(
        begin=begin,
        end=end,
        name=np.array(causes, np.int64)[kind],
        names=CAUSES,
        step=records["step"][firsts].astype(np.int64),
        last=records["step"][lasts].astype(np.int64),
        phases=PHASES,
        bounds=bounds,
        drawn=(bounds[:, 1:] > bounds[:, :-1]) & shown[:, None],
        told={
            "epoch": records["epoch"][firsts].astype(np.float64),
            "samples": np.add.reduceat(records["samples"].astype(np.float64), firsts),
            "loss": np.add.reduceat(records["loss"].astype(np.float64), firsts) / count,
        },
    )


def _firsts(alone: npt.NDArray[np.bool_], together: int) -> npt.NDArray[np.int64]:
    """Return where slices begin: at what stays alone, behind it, and after so many others in a row."""
    begins = alone.copy()
    begins[1:] |= alone[:-1]
    begins[:1] = True
    places = np.arange(len(alone))
    since = places - np.maximum.accumulate(np.where(begins, places, 0))
    found: npt.NDArray[np.int64] = np.flatnonzero(begins | (since % together == 0))
    return found


def _bounds(records: Records, firsts: npt.NDArray[np.int64], begin: Nanoseconds, end: Nanoseconds) -> Nanoseconds:
    """Return where the phases begin and end, within their slice, shape (slices, phases + 1)."""
    lengths = np.stack([np.clip(np.nan_to_num(records[phase]), 0, LATEST / 8) for phase in PHASES], axis=1)
    sums = np.add.reduceat(nanoseconds(lengths), firsts, axis=0)
    behind = begin[:, None] + np.cumsum(sums, axis=1)
    return np.concatenate([begin[:, None], np.minimum(behind, end[:, None])], axis=1)


def nanoseconds(seconds: npt.NDArray[Any]) -> Nanoseconds:
    """Return seconds as whole nanoseconds."""
    return np.rint(seconds.astype(np.float64) * 1e9).astype(np.int64)
