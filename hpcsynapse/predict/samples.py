"""What a cost model needs of a run beside its step time: how long ranks compute, and what communication is left over.

Computation is everything from the end of one step to the end of the next but the phase `communicate` and marked
pauses: a rank that is early waits for the others there. The communication of a step is what the step takes longer than
its slowest computation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict.slowest import dependence
from hpcsynapse.report.intervals import BLOCKS, MIN_BLOCK
from hpcsynapse.report.loading import each_time
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.timing import WARMUP

Floats = npt.NDArray[np.float64]
MAX_RECORDS = 8_000_000  # of all ranks of a run; of a longer one the last steps are used
KEPT = 20_000  # relative times that are kept of a run


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunSamples:
    """One run; times in seconds, means over ranks and steps.

    `level` is how long a rank computes, `relative` computation / level of ranks and steps, by step; `excess` by how
    much the slowest rank exceeds the level, as measured and were ranks independent, relative too. `communicate` is what
    communication adds to a step, `backward` the time in that phase, `overlaps` whether communication went on
    meanwhile; `phases_known` whether any communication was recorded at all. The two errors are standard errors as
    blocks of steps show them: of the level relative to it, of communication in seconds; 0 with too few steps.
    """

    level: float
    relative: Floats
    excess: tuple[float, float]
    communicate: float
    backward: float
    overlaps: bool
    phases_known: bool
    gradient_bytes: float | None
    level_error: float = 0.0
    communicate_error: float = 0.0


def read_samples(source: RunDirectory | Path, asynchronous: bool) -> RunSamples | None:
    """Read a run without its warm-up; None when there is no step that all ranks recorded."""
    about: dict[str, Any] = {}
    ranks, steps = [], []
    for header, own in each_time(source):
        about = header  # of any rank: they agree in what is asked for below
        cold = (own.records["flags"] & WARMUP) == 0
        used = cold if cold.any() else np.ones(len(cold), np.bool_)
        mine = own.records[used]
        steps.append(mine["step"].astype(np.int64))
        paused = np.zeros(len(mine)) if own.paused is None else own.paused[used].sum(axis=1)
        ranks.append(np.stack([own.period[used], _known(mine["communicate"]), _known(mine["backward"]), paused]))
    facts = {"overlaps": about.get("communicate") == "exposed", "gradient_bytes": _bytes(about)}
    return _asynchronous(ranks, facts) if asynchronous else _lockstep(ranks, steps, facts)


def _known(times: npt.NDArray[np.float32]) -> Floats:
    """Return recorded times, with 0 for a phase that is no number."""
    return np.asarray(np.nan_to_num(times.astype(float), nan=0.0, posinf=0.0, neginf=0.0))


def _bytes(header: Mapping[str, Any]) -> float | None:
    """Return how many bytes of gradients a rank has to exchange, where that is known."""
    size, options = header.get("gradient_bytes"), str(header.get("exchange", "")).split("+")
    if not isinstance(size, int) or size <= 0 or "powersgd" in options:
        return None
    return size / 2 if {"fp16", "bf16"} & set(options) else float(size)


def _lockstep(ranks: list[Floats], steps: list[npt.NDArray[np.int64]], facts: dict[str, Any]) -> RunSamples | None:
    common = steps[0]
    for own in steps[1:]:
        common = common if np.array_equal(own, common) else np.intersect1d(common, own)
    common = common[-max(1, MAX_RECORDS // len(ranks)) :]
    if not len(common):
        return None
    whole = np.stack([one[:, np.isin(own, common)] for one, own in zip(ranks, steps, strict=True)])
    period, waiting, backward, paused = whole[:, 0], whole[:, 1], whole[:, 2], whole[:, 3].max(axis=0)
    compute = np.maximum(period - waiting, 1e-9)
    left = period.mean(axis=0) - compute.max(axis=0)
    if not paused.all():  # else the others wait for the rank that paused: no communication
        left = left[paused == 0]
    level = float(compute.mean())
    measured, alone = dependence(compute) if len(ranks) > 1 else (0.0, 0.0)
    return RunSamples(
        level=level,
        relative=_thinned(compute.T.ravel()) / level,
        excess=(measured / level, alone / level),
        communicate=max(0.0, float(left.mean())),
        backward=float(backward.mean()),
        phases_known=bool(waiting.any()),
        level_error=mean_error(compute.mean(axis=0)) / level,
        communicate_error=mean_error(left),
        **facts,
    )


def _asynchronous(ranks: list[Floats], facts: dict[str, Any]) -> RunSamples:
    period, waiting = np.concatenate([one[:2] for one in ranks], axis=1)
    compute = np.maximum(period - waiting, 1e-9)
    level = float(compute.mean())
    return RunSamples(
        level=level,
        relative=_thinned(compute) / level,
        excess=(0.0, 0.0),
        communicate=float(waiting.mean()),
        backward=0.0,
        phases_known=bool(waiting.any()),
        level_error=mean_error(compute) / level,
        communicate_error=mean_error(waiting),
        **{**facts, "overlaps": False},
    )


def mean_error(series: Floats) -> float:
    """Return the standard error of the mean of a series, by the means of equal blocks of neighbours."""
    size = len(series) // BLOCKS
    if size < MIN_BLOCK:
        return 0.0
    blocks = series[len(series) - size * BLOCKS :].reshape(BLOCKS, size).mean(axis=1)
    return float(blocks.std(ddof=1) / np.sqrt(BLOCKS))


def _thinned(values: Floats) -> Floats:
    """Return KEPT values or fewer, evenly spread, in their order."""
    if len(values) <= KEPT:
        return values
    return values[np.linspace(0, len(values) - 1, KEPT).astype(np.int64)]
