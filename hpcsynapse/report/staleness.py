"""How old the gradients of an asynchronous run were: updates by others between a worker's pull and its push."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.files import read_json
from hpcsynapse.report.loading import each_rank
from hpcsynapse.report.points import Point
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.names import SERVED
from hpcsynapse.timing import WARMUP

_LONGEST = 100_000  # of a gradient that is older this many are noted


@dataclass(frozen=True, slots=True)
class Staleness:
    """`counts[k]` gradients were k updates old; `dropped` of all `sent` were not used (None: no server told)."""

    counts: npt.NDArray[np.int64]
    dropped: int | None
    sent: int | None

    @property
    def mean(self) -> float:
        """Mean number of updates."""
        return float((self.counts * np.arange(len(self.counts))).sum() / self.counts.sum())

    def quantile(self, share: float) -> int:
        """Return the smallest number of updates that at least this share of all gradients did not exceed."""
        cumulative = np.cumsum(self.counts)
        return int(np.searchsorted(cumulative, share * cumulative[-1] - 1e-9))

    @property
    def dropped_share(self) -> float | None:
        """Fraction of the gradients that were dropped."""
        return None if self.dropped is None or not self.sent else self.dropped / self.sent


def staleness(source: Any) -> Staleness | None:
    """Return the staleness of a run (or a folder of records) without its warm-up, or None where none was recorded."""
    total = np.zeros(1, np.int64)
    for _, records in each_rank(source):
        cold = (records["flags"] & WARMUP) == 0
        own = records["staleness"][cold if cold.any() else slice(None)]
        counts = np.bincount(np.clip(own[own >= 0], 0, _LONGEST), minlength=len(total))
        counts[: len(total)] += total
        total = counts
    if not total.sum():
        return None
    dropped, sent = _dropped(source) if isinstance(source, RunDirectory) else (None, None)
    return Staleness(total, dropped, sent)


def staleness_of(point: Point) -> dict[str, float | None]:
    """Return the columns of a point: means over its repeats; of ranks that wait for one another there is none."""
    asked = point.asynchronous or point.first.run.about.strategy in SERVED
    found = [one for repeat in point.repeats if asked and (one := staleness(repeat.run.source)) is not None]
    dropped = [one.dropped_share for one in found if one.dropped_share is not None]
    return {
        "staleness_mean": _mean([one.mean for one in found]),
        "staleness_p95": _mean([one.quantile(0.95) for one in found]),
        "dropped": _mean(dropped),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _dropped(run: RunDirectory) -> tuple[int | None, int | None]:
    """Return gradients dropped and sent, by the server that dropped most of each worker: a gradient goes to all."""
    by_worker: dict[int, list[tuple[int, int]]] = {}
    for worker, dropped, applied in _told(run):
        by_worker.setdefault(worker, []).append((dropped, dropped + applied))
    if not by_worker:
        return None, None
    worst = [max(pairs) for pairs in by_worker.values()]
    return sum(pair[0] for pair in worst), sum(pair[1] for pair in worst)


def _told(run: RunDirectory) -> Iterator[tuple[int, int, int]]:
    """Yield worker, dropped and applied gradients from the files of all servers."""
    index = 0
    while (table := read_json(run.server_counts(index))) is not None:
        index += 1
        for line in table.get("workers") or ():
            if isinstance(line, dict):
                values = [line.get(name) for name in ("worker", "dropped", "applied")]
                if all(isinstance(value, int) for value in values):
                    yield values[0], values[1], values[2]  # type: ignore[misc]  # checked above
