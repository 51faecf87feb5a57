"""One process: the baseline of every speedup."""

from __future__ import annotations

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.strategies.base import GradientStrategy


class Single(GradientStrategy):
    """Plain training on one rank; raises TrainError in a larger world."""

    def __init__(self, engine: Engine, spec: JobSpec, world: RankIdentity) -> None:
        if engine.size != 1:
            raise TrainError(f"strategy 'single' runs one rank, but there are {engine.size}; use --strategy allreduce")
        super().__init__(engine, spec, world)
