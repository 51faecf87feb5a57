"""How far ranks had drifted apart before each broadcast of rank 0's parameters (`hpcsynapse.BroadcastEvery`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcsynapse.files import read_json_lines
from hpcsynapse.report.sums import Floats
from hpcsynapse.runs.directory import RunDirectory


@dataclass(frozen=True, slots=True)
class Drift:
    """Two arrays of one length: the step after which a broadcast came, and what the ranks had drifted apart by.

    It is the largest distance of a rank's parameters from those of rank 0, over the norm of those.
    """

    step: Floats
    value: Floats


def drift_of(source: RunDirectory | Path) -> Drift | None:
    """Return the drift that a run recorded, None where it recorded none."""
    lines = read_json_lines(source.drift) if isinstance(source, RunDirectory) else []
    found = [(one["step"], one["drift"]) for one in lines if _known(one.get("step")) and _known(one.get("drift"))]
    if not found:
        return None
    step, value = np.array(sorted(found), dtype=float).T
    return Drift(step, value)


def _known(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
