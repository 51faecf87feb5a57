"""Which runs a study consists of: a pure function from its lists and the description that all runs share.

The runs of a repeat come one after another before those of the next begin, so that a machine that grows slower in the
course of a study does not look like poor scaling of whatever came last. Repeat n trains with seed + n - 1.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import at_least, setting
from hpcsynapse.spec import JobSpec, ResourceRequest
from hpcsynapse.training import SERVED, TrainSpec
from hpcsynapse.usercode_checks import label

SINGLE = "single"
MAX_RUNS = 10_000
# What may vary: the setting of a run that each list is for. In this order, the last changing fastest.
DIMENSIONS = {
    "model": ("train", "model"),
    "strategy": ("train", "strategy"),
    "engine": ("train", "engine"),
    "batch": ("train", "batch"),
    "nodes": ("resources", "nodes"),
    "gpus": ("resources", "gpus"),
    "ranks": ("resources", "ranks_per_node"),
}
_SEEDS = 2**31


class Choice(NamedTuple):
    """One combination of the lists, in the order of DIMENSIONS; None: the description's own value."""

    model: str | None
    strategy: str | None
    engine: str | None
    batch: int | None
    nodes: int | None
    gpus: int | None
    ranks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """What a study varies; an empty list leaves a value to the description of the runs."""

    strategy: tuple[str, ...] = setting((), "strategies; single runs on one rank, whatever the lists say")
    engine: tuple[str, ...] = setting((), "engines")
    model: tuple[str, ...] = setting((), "models")
    batch: tuple[int, ...] = setting((), "batches: per rank (weak scaling), or of all ranks (strong)")
    nodes: tuple[int, ...] = setting((), "numbers of nodes")
    gpus: tuple[int, ...] = setting((), "numbers of GPUs on each node")
    ranks: tuple[int, ...] = setting((), "numbers of ranks on each node")
    repeats: int = setting(1, "runs of every point", check=at_least(1, 1000))
    scaling: str = setting(
        "weak", "weak: the batch is that of a rank; strong: of all ranks", choices=("weak", "strong")
    )
    chain: bool = setting(True, "queues: every run waits until the one before it has ended")
    jobs: str = setting(
        "separate", "queues: a job for every run, job arrays, or one allocation for all runs, the largest first",
        choices=("separate", "array", "packed"),
    )  # fmt: skip
    budget: float | None = setting(None, "node-hours that the study may take; no run begins that could exceed them",
                                   check=at_least(0))  # fmt: skip

    def __post_init__(self) -> None:
        fields.validate("study", self)
        for name in DIMENSIONS:
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise SpecError(f"study.{name} = {list(values)}: give every value once")
        count = self.repeats * math.prod(len(getattr(self, name)) or 1 for name in DIMENSIONS)
        if count > MAX_RUNS:
            raise SpecError(f"a study of {count} runs is too large; at most {MAX_RUNS} are accepted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run of a study; its description carries its name."""

    repeat: int
    spec: JobSpec

    @property
    def name(self) -> str:
        """The run's name, unique in its study."""
        return str(self.spec.name)

    @property
    def node_hours(self) -> float:
        """Node-hours that the run takes at most."""
        return self.spec.allocated_nodes * self.spec.resources.walltime.total_seconds() / 3600

    def to_dict(self) -> dict[str, Any]:
        """Return what tells the runs of a study apart, for tables."""
        resources, train, trains = self.spec.resources, self.spec.train, not self.spec.command
        return {
            "run": self.name, "repeat": self.repeat, "strategy": train.strategy if trains else "",
            "engine": train.engine if trains else "", "model": train.model if trains else self.spec.command[0],
            "nodes": resources.nodes, "gpus": resources.gpus, "ranks": resources.world_size,
            "batch_per_rank": train.batch if trains else None,
            "global_batch": train.batch * resources.world_size if trains else None,
            "node_hours": round(self.node_hours, 4),
        }  # fmt: skip


def expand(study: StudySpec, base: JobSpec) -> list[Point]:
    """Return all runs of a study in the order in which they are to run; the largest first where one allocation has all.

    Raises SpecError for a combination that is no valid description, naming it, and for global batches that the ranks
    do not divide, naming all of them.
    """
    if base.command:
        _check_command(study)
    found: dict[Choice, JobSpec] = {}
    uneven = []
    for values in itertools.product(*(getattr(study, name) or (None,) for name in DIMENSIONS)):
        choice = _effective(Choice(*values), base)
        try:
            found[choice] = found.get(choice) or _describe(choice, study, base)  # single comes once for every list
        except _UnevenError as error:
            uneven.append(str(error))
    if uneven:
        raise SpecError("strong scaling needs global batches that the ranks divide: " + "; ".join(uneven))
    names = _names(found, base)
    order = sorted(zip(names, found.values(), strict=True),
                   key=lambda one: -one[1].allocated_nodes if study.jobs == "packed" else 0)  # fmt: skip
    return [_repeat(spec, name, number, study) for number in range(1, study.repeats + 1) for name, spec in order]


class _UnevenError(SpecError):
    """A global batch that the ranks do not divide."""


def _check_command(study: StudySpec) -> None:
    own = [name for name, (section, _) in DIMENSIONS.items() if section == "train" and getattr(study, name)]
    if own or study.scaling == "strong":
        what = f"study.{own[0]}" if own else "study.scaling = 'strong'"
        raise SpecError(f"{what} is for the built-in trainer; a program of your own decides that by itself")


def _effective(choice: Choice, base: JobSpec) -> Choice:
    """Return a combination without what does not concern its strategy."""
    if choice.strategy == SINGLE:
        gpus = base.resources.gpus if choice.gpus is None else choice.gpus
        return choice._replace(engine=None, nodes=1, gpus=min(1, gpus), ranks=1)
    # Parameter servers speak for themselves; what averages inside a node is no choice.
    return choice._replace(engine=None) if choice.strategy in SERVED else choice


def _describe(choice: Choice, study: StudySpec, base: JobSpec) -> JobSpec:
    changes: dict[str, dict[str, Any]] = {"resources": {}, "train": {}}
    given = {name: value for name, value in choice._asdict().items() if value is not None}
    for name, value in given.items():
        section, item = DIMENSIONS[name]
        changes[section][item] = value
    words = ", ".join(f"{name} {value}" for name, value in given.items())
    try:
        resources: ResourceRequest = replace(base.resources, **changes["resources"])
        if study.scaling == "strong":
            changes["train"]["batch"] = _share(choice.batch or base.train.batch, resources.world_size, words)
        train: TrainSpec = replace(base.train, **changes["train"])
        return replace(base, name=None, resources=resources, train=train)
    except _UnevenError:
        raise
    except SpecError as error:
        raise SpecError(f"{error} (in the study: {words})") from None


def _share(batch: int, ranks: int, given: str) -> int:
    if batch % ranks:
        raise _UnevenError(f"{batch} over {ranks} ranks ({given})")
    return batch // ranks


def _names(found: Mapping[Choice, JobSpec], base: JobSpec) -> list[str]:
    """Return a name for every point: strategy and geometry, and what else differs between points."""
    parts: dict[str, Callable[[Any], str]] = {
        "engine": str, "model": lambda value: _plain(label(value))[:20], "batch": "b{}".format, "gpus": "g{}".format,
    }  # fmt: skip
    varying = [name for name in parts if len({getattr(choice, name) for choice in found} - {None}) > 1]
    names: list[str] = []
    taken: Counter[str] = Counter()
    for choice, spec in found.items():
        first = "run" if base.command or spec.train.strategy == "auto" else spec.train.strategy
        words = [first, f"{spec.resources.nodes}x{spec.resources.local_size}"]
        values = ((name, getattr(choice, name)) for name in varying)
        words += [parts[name](value) for name, value in values if value is not None]
        name = "-".join(words)
        taken[name] += 1  # names of models can be alike once they are plain
        names.append(f"{name}.{taken[name]}" if taken[name] > 1 else name)
    return names


def _plain(text: str) -> str:
    return "".join(character if character.isalnum() and character.isascii() else "-" for character in text)


def _repeat(spec: JobSpec, name: str, number: int, study: StudySpec) -> Point:
    seed = (spec.train.seed + number - 1) % _SEEDS
    name = f"{name}-r{number}" if study.repeats > 1 else name
    return Point(repeat=number, spec=replace(spec, name=name, train=replace(spec.train, seed=seed)))
