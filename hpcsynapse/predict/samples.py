"""What a cost model needs of a run beside its step time: how long ranks compute, and what communication is left over.

Computation is everything in a step but the phase `communicate`: a rank that is early waits for the others there. The
communication of a step is what the step takes longer than its slowest computation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.predict.slowest import dependence
from hpcsynapse.report.loading import each_rank
from hpcsynapse.rundir import RunDirectory
from hpcsynapse.timing import WARMUP

Floats = npt.NDArray[np.float64]
MAX_RECORDS = 8_000_000  # of all ranks of a run; of a longer one the last steps are used
KEPT = 20_000  # relative times that are kept of a run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSamples:
    """One run; times in seconds.

    `level` is how long a rank computes (the median; asynchronous: the mean), `relative` computation / level of ranks
    and steps, by step; `excess` by how much the slowest rank exceeds the level, as measured and were ranks independent,
    relative too. `communicate` is what communication adds to a step, `backward` the median of that phase, `overlaps`
    whether communication went on meanwhile; `phases_known` whether any communication was recorded at all.
    """

    level: float
    relative: Floats
    excess: tuple[float, float]
    communicate: float
    backward: float
    overlaps: bool
    phases_known: bool
    gradient_bytes: float | None


def read_samples(source: RunDirectory | Path, asynchronous: bool) -> RunSamples | None:
    """Read a run without its warm-up; None when there is no step that all ranks recorded."""
    about: dict[str, Any] = {}
    ranks, steps = [], []
    for header, records in each_rank(source):
        about = header  # of any rank: they agree in what is asked for below
        cold = records[(records["flags"] & WARMUP) == 0]
        mine = cold if len(cold) else records
        steps.append(mine["step"].astype(np.int64))
        ranks.append(np.stack([mine[name] for name in ("total", "communicate", "backward")]).astype(float))
    facts = {"overlaps": about.get("communicate") == "exposed", "gradient_bytes": _bytes(about)}
    return _asynchronous(ranks, facts) if asynchronous else _lockstep(ranks, steps, facts)


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
    total, waiting, backward = whole[:, 0], whole[:, 1], whole[:, 2]
    compute = np.maximum(total - waiting, 1e-9)
    left = total.max(axis=0) - compute.max(axis=0)
    level = float(np.median(compute))
    measured, alone = dependence(compute) if len(ranks) > 1 else (0.0, 0.0)
    return RunSamples(
        level=level, relative=_thinned(compute.T.ravel()) / level, excess=(measured / level, alone / level),
        communicate=max(0.0, float(np.median(left))), backward=float(np.median(backward)),
        phases_known=bool(waiting.any()), **facts,
    )  # fmt: skip


def _asynchronous(ranks: list[Floats], facts: dict[str, Any]) -> RunSamples:
    total, waiting = np.concatenate([one[:2] for one in ranks], axis=1)
    compute = np.maximum(total - waiting, 1e-9)
    level = float(compute.mean())
    return RunSamples(
        level=level, relative=_thinned(compute) / level, excess=(0.0, 0.0), communicate=float(waiting.mean()),
        backward=0.0, phases_known=bool(waiting.any()), **{**facts, "overlaps": False},
    )  # fmt: skip


def _thinned(values: Floats) -> Floats:
    """Return KEPT values or fewer, evenly spread, in their order."""
    if len(values) <= KEPT:
        return values
    return values[np.linspace(0, len(values) - 1, KEPT).astype(np.int64)]
