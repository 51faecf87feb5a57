"""Strategies by name: a literal table, imported on selection."""

from __future__ import annotations

from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.plugins import Entry, select
from hpcsynapse.trainer.strategies.base import Strategy

_PACKAGE = "hpcsynapse.trainer.strategies"
STRATEGIES: dict[str, Entry] = {
    "single": Entry(f"{_PACKAGE}.single", "Single", "one process; the baseline of every speedup"),
    "allreduce": Entry(f"{_PACKAGE}.allreduce", "AllReduce", "gradients averaged over all ranks before every update"),
}


def create(name: str, engine: Engine) -> Strategy:
    """Return a strategy on a started engine; raises TrainError for an unknown name."""
    strategy: Strategy = select("strategy", STRATEGIES, name)(engine)
    return strategy
