"""What a run could do about communication that nothing hides."""

from __future__ import annotations

import numpy as np

from hpcsynapse.report.loading import LoadedRun
from hpcsynapse.timing import PHASES

EXPOSED = 0.10  # of a step
_COMMUNICATE = PHASES.index("communicate")


def advice(run: LoadedRun) -> str | None:
    """Return a sentence that names options where more than a tenth of a step is exposed communication, else None.

    It is the median over measured steps of the ranks' mean time in that phase / the slowest rank's step, and contains
    what ranks waited for one another.
    """
    options = _options(run.about.strategy, run.about.engine)
    if not options or not len(run.slowest):
        return None
    cold = ~run.warmup if not run.warmup.all() else np.ones(len(run.warmup), np.bool_)
    share = float(np.median(run.phases[cold, _COMMUNICATE] / run.slowest[cold]))
    if share <= EXPOSED:
        return None
    return f"{run.about.name}: {share:.0%} of a step is communication that nothing hides; try {options}"


def _options(label: str, engine: str) -> str:
    """Return what a strategy (as a report labels it: `local-sgd+every16+fp16`) has not tried yet."""
    strategy, *used = label.split("+")
    halves = "" if {"fp16", "bf16", "powersgd"} & set(used) else "--compression fp16"
    if strategy == "local-sgd":
        found = [halves, "" if "overlap" in used or engine == "mpi" else "--overlap", "a larger --average-every"]
    elif strategy in ("allreduce", "allreduce-broadcast", "central"):
        bucket = "another --bucket-mb" if engine == "ddp" and not {"central", "powersgd"} & {strategy, *used} else ""
        away = "--strategy local-sgd --overlap" if engine != "mpi" else "--strategy local-sgd"
        found = [halves, bucket, "--strategy allreduce" if strategy == "central" else "", away]
    else:
        return ""
    return " or ".join(option for option in found if option)
