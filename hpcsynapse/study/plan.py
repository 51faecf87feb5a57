"""Which runs a study consists of: a pure function from its lists and the description that all runs share.

The runs of a repeat come one after another before those of the next begin, so that a machine that grows slower in the
course of a study does not look like poor scaling of whatever came last. Repeat n trains with seed + n - 1.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.study import placeholders
from hpcsynapse.study.choices import Choice, UnevenError, choices, describe, effective, key_of
from hpcsynapse.study.lists import LISTS, StudySpec
from hpcsynapse.study.naming import names_of
from hpcsynapse.table import KEY, column, columns

_SEEDS = 2**31
_TRAINER = ("train", "exchange", "ps", "dual")  # sections that say nothing to a program of one's own


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run of a study as `--dry-run` shows it; the fields, in this order, are the columns. None: not known."""

    run: str = column("name of the run", priority=KEY, always=True)
    repeat: int = column("number of the repeat", priority=4)
    strategy: str = column("how the ranks work together", priority=8)
    engine: str = column("what moves the data", priority=6)
    model: str = column("model, or the program of a user's own command", priority=6)
    nodes: int = column("nodes", priority=8)
    gpus: int = column("GPUs of a node")
    ranks: int = column("ranks of all nodes", priority=KEY)
    batch_per_rank: int | None = column("samples of a rank in a step", head="batch/rank", priority=7)
    global_batch: int | None = column("samples of all ranks in a step", priority=6)
    settings: str = column("what --vary gives to it", priority=KEY)
    node_hours: float = column("node-hours at most", head="node-hours", priority=7)
    command: str = column("the user's own command, with values in the place of placeholders", priority=5)


COLUMNS = columns(PlannedRun)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run of a study; its description carries its name, `settings` are those that `--vary` gives to it."""

    repeat: int
    spec: JobSpec
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name, unique in its study."""
        return str(self.spec.name)

    @property
    def node_hours(self) -> float:
        """Node-hours that the run takes at most."""
        return self.spec.allocated_nodes * self.spec.resources.walltime.total_seconds() / 3600

    def planned(self) -> PlannedRun:
        """Return what tells the runs of a study apart, for tables."""
        resources, train, trains = self.spec.resources, self.spec.train, not self.spec.command
        return PlannedRun(
            run=self.name,
            repeat=self.repeat,
            strategy=train.strategy if trains else "",
            engine=train.engine if trains else "",
            model=train.model if trains else self.spec.command[0],
            nodes=resources.nodes,
            gpus=resources.gpus,
            ranks=resources.world_size,
            batch_per_rank=train.samples_per_step if trains else None,
            global_batch=train.samples_per_step * resources.world_size if trains else None,
            settings=", ".join(f"{path}={placeholders.text_of(value)}" for path, value in self.settings.items()),
            node_hours=round(self.node_hours, 4),
            command=shlex.join(self.spec.command),
        )


def expand(study: StudySpec, base: JobSpec) -> list[Point]:
    """Return all runs of a study in the order in which they are to run; the largest first where one allocation has all.

    Raises SpecError for a combination that is no valid description, naming it, for global batches that the ranks do
    not divide, naming all of them, and for what is varied without any effect.
    """
    if base.command:
        _check_command(study, base)
    found: dict[str, tuple[Choice, JobSpec]] = {}
    uneven = []
    for asked in choices(study):
        choice = effective(asked, base)
        try:  # single comes once for every list
            found.setdefault(key_of(choice), (choice, describe(choice, study, base)))
        except UnevenError as error:
            uneven.append(str(error))
    if uneven:
        raise SpecError("strong scaling needs global batches that the ranks divide: " + "; ".join(uneven))
    points = list(found.values())
    _check_effects(study, base, [choice for choice, _ in points])
    named = [(name, choice, spec) for name, (choice, spec) in zip(names_of(study, base, points), points, strict=True)]
    if study.jobs == "packed":
        named.sort(key=lambda one: -one[2].allocated_nodes)
    return [_repeat(*one, number, study) for number in range(1, study.repeats + 1) for one in named]


def _check_command(study: StudySpec, base: JobSpec) -> None:
    """Refuse what a program of one's own would not hear of; it hears of what its command has placeholders for."""
    used = placeholders.used(base.command, placeholders.paths_by_name(study.varied))
    for path in study.varied:
        if path.partition(".")[0] in _TRAINER and path not in used:
            list_of = next((f"study.{name}" for name, own in LISTS.items() if own == path), f"study.vary: {path}")
            raise SpecError(
                f"{list_of} is for the built-in trainer; a program of your own takes it where its command has "
                f"{{{path.rpartition('.')[2]}}}"
            )
    if study.scaling == "strong" and LISTS["batch"] not in used:
        raise SpecError(
            "study.scaling = 'strong' is for the built-in trainer; a program of your own takes its share of --batch "
            "where its command has {batch}"
        )


def _check_effects(study: StudySpec, base: JobSpec, found: list[Choice]) -> None:
    for path in study.vary:
        if not any(path in choice for choice in found):
            strategies = ", ".join(study.strategy or [base.train.strategy])
            raise SpecError(f"study.vary: {path} means nothing to strategy {strategies}")


def _repeat(name: str, choice: Choice, spec: JobSpec, number: int, study: StudySpec) -> Point:
    seed = (spec.train.seed + number - 1) % _SEEDS
    name = f"{name}-r{number}" if study.repeats > 1 else name
    train = spec.train if seed == spec.train.seed else replace(spec.train, seed=seed)
    made = replace(spec, name=name, train=train)
    if made.command:
        known = placeholders.paths_by_name(study.varied)
        made = replace(made, command=placeholders.fill(made.command, known, made))
    return Point(repeat=number, spec=made, settings={path: choice[path] for path in study.vary if path in choice})
