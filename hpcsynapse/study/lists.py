"""The table [study] of a description: what a study varies, and how its runs reach their queue."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting
from hpcsynapse.study import vary

MAX_RUNS = 10_000
# The setting of a run that each list is for.
LISTS = {
    "model": "train.model",
    "strategy": "train.strategy",
    "engine": "train.engine",
    "batch": "train.batch",
    "nodes": "resources.nodes",
    "gpus": "resources.gpus",
    "ranks_per_node": "resources.ranks_per_node",
}
_PLACES = ("nodes", "gpus", "ranks_per_node")
_SETUP = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,3})", re.ASCII)
# What all runs in one allocation share.
_OF_ALLOCATION = ("queue.", "resources.gpu_type", "resources.exclusive", "resources.mem")


def _check_setup(name: str, value: str) -> None:
    if not _SETUP.fullmatch(value):
        raise SpecError(f"{name}: {value!r} is not NODESxGPUS, such as 2x4 for 2 nodes with 4 GPUs each")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """What a study varies; an empty list leaves a value to the description of the runs."""

    strategy: tuple[str, ...] = setting((), "strategies; single runs on one rank, whatever the lists say")
    engine: tuple[str, ...] = setting((), "engines")
    model: tuple[str, ...] = setting((), "models")
    batch: tuple[int, ...] = setting((), "batches: per rank (weak scaling), or of all ranks (strong)")
    nodes: tuple[int, ...] = setting((), "numbers of nodes")
    gpus: tuple[int, ...] = setting((), "numbers of GPUs on each node")
    ranks_per_node: tuple[int, ...] = setting((), "numbers of ranks on each node")
    setups: tuple[str, ...] = setting(
        (), "pairs NODESxGPUS, a rank for each GPU: 1x1,1x4,2x4; with --gpus 0 NODESxRANKS", check=_check_setup
    )
    vary: dict[str, Any] = setting({}, "values of any setting (repeatable: all combinations): train.lr=0.1,0.01")
    repeats: int = setting(1, "runs of every point", check=at_least(1, 1000))
    scaling: str = setting(
        "weak", "weak: the batch is that of a rank; strong: of all ranks", choices=("weak", "strong")
    )
    chain: bool = setting(True, "queues: every run waits until the one before it has ended")
    jobs: str = setting(
        "separate",
        "queues: a job for every run, job arrays, or one allocation for all runs, the largest first",
        choices=("separate", "array", "packed"),
    )
    budget: float | None = setting(
        None, "node-hours that the study may take; no run begins that could exceed them", check=at_least(0)
    )

    def __post_init__(self) -> None:
        fields.validate("study", self)
        self._spread()
        for name in (*LISTS, "setups"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise SpecError(f"study.{name} = {list(values)}: give every value once")
        self._check_places()
        if self.jobs == "packed" and (alone := [path for path in self.vary if path.startswith(_OF_ALLOCATION)]):
            raise SpecError(
                f"study.vary: {alone[0]} cannot vary within one allocation; use --jobs array, or --jobs separate"
            )
        if self.repeats > 1 and "train.seed" in self.vary:
            raise SpecError("study.vary: train.seed is what repeats vary; leave it out, or --repeats")
        axes = [*(getattr(self, name) for name in (*LISTS, "setups")), *self.vary.values()]
        if (count := self.repeats * math.prod(len(values) or 1 for values in axes)) > MAX_RUNS:
            raise SpecError(f"a study of {count} runs is too large; at most {MAX_RUNS} are accepted")

    def _spread(self) -> None:
        """Check what any setting is to be, and take that of the lists as such: both mean the same."""
        varied = vary.checked(self.vary)
        for name, path in LISTS.items():
            if path in varied and getattr(self, name):
                raise SpecError(f"study.{name} and study.vary both list values of {path}; keep one of them")
            object.__setattr__(self, name, varied.pop(path, getattr(self, name)))
        object.__setattr__(self, "vary", varied)

    def _check_places(self) -> None:
        if not self.setups:
            return
        for name in _PLACES:
            values = getattr(self, name)
            if values and (name, values) != ("gpus", (0,)):
                raise SpecError(f"study.setups says nodes and GPUs; leave study.{name} = {list(values)} out")

    @property
    def places(self) -> list[tuple[int, int, int]]:
        """Nodes, GPUs and ranks of a node of every set-up."""
        found = [tuple(map(int, text.split("x"))) for text in self.setups]
        return [(nodes, 0 if self.gpus else each, each) for nodes, each in found]

    @property
    def varied(self) -> list[str]:
        """The settings that differ, or may differ, between runs."""
        own = [path for name, path in LISTS.items() if getattr(self, name) or (self.setups and name in _PLACES)]
        return [*own, *self.vary]
