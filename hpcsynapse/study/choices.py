"""Combinations of what a study varies, and the description of a run that each is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.names import SERVED
from hpcsynapse.study.lists import LISTS, StudySpec

SINGLE = "single"
Choice = dict[str, Any]  # values by path, `section.key` or `section.table.key`
# Settings of a section that only some of its strategies read.
_ONLY = {
    "exchange.average_every": ("local-sgd",),
    "exchange.overlap": ("local-sgd",),
    "exchange.broadcast_every": ("allreduce-broadcast",),
    "exchange.broadcast_optimizer": ("allreduce-broadcast",),
    "ps.needed": ("ps-sync",),
    "ps.staleness_limit": ("ps-async", "mixed"),
    "ps.staleness_lr": ("ps-async", "mixed"),
}
_MODEL, _STRATEGY, _ENGINE, _BATCH, _NODES, _GPUS, _RANKS = LISTS.values()


class UnevenError(SpecError):
    """A global batch that the ranks do not divide."""


def choices(study: StudySpec) -> Iterator[Choice]:
    """Yield every combination, places last, which change fastest."""
    lists = {path: getattr(study, name) for name, path in LISTS.items()}
    places = [lists.pop(path) for path in (_NODES, _GPUS, _RANKS)]
    paths = [*lists, *study.vary]
    triples = study.places or itertools.product(*(values or (None,) for values in places))
    for *values, place in itertools.product(
        *(lists.get(path, study.vary.get(path)) or (None,) for path in paths), list(triples)
    ):
        pairs = zip((*paths, _NODES, _GPUS, _RANKS), (*values, *place), strict=True)
        yield {path: value for path, value in pairs if value is not None}


def key_of(choice: Choice) -> str:
    """Return a text that is the same for equal combinations alone."""
    return repr(sorted((path, repr(value)) for path, value in choice.items()))


def effective(choice: Choice, base: JobSpec) -> Choice:
    """Return a combination without what does not concern its strategy; a user's own command may use all of it."""
    if base.command:
        return choice
    strategy = choice.get(_STRATEGY, base.train.strategy)
    kept = {path: value for path, value in choice.items() if _concerns(path, strategy)}
    # Parameter servers speak for themselves; what averages inside a node is no choice.
    if choice.get(_STRATEGY) in (SINGLE, *SERVED):
        kept.pop(_ENGINE, None)
    if choice.get(_STRATEGY) == SINGLE:
        gpus = choice.get(_GPUS, base.resources.gpus)
        kept |= {_NODES: 1, _GPUS: min(1, gpus), _RANKS: 1}
    return kept


def _concerns(path: str, strategy: str) -> bool:
    if path in _ONLY:
        return strategy in _ONLY[path]
    section = path.partition(".")[0]
    if section == "exchange":
        return strategy not in (SINGLE, "admm", *SERVED)
    return {"ps": strategy in SERVED, "dual": strategy == "admm"}.get(section, True)


def describe(choice: Choice, study: StudySpec, base: JobSpec) -> JobSpec:
    """Return the description of a run; raises SpecError naming the combination that is none, and UnevenError."""
    words = ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in choice.items())
    changes: dict[str, dict[str, Any]] = {}
    for path, value in choice.items():
        section, name, *inner = path.split(".", 2)
        own = changes.setdefault(section, {})
        own[name] = {**own.get(name, getattr(getattr(base, section), name)), inner[0]: value} if inner else value
    try:
        resources = replace(base.resources, **changes.pop("resources", {}))
        if study.scaling == "strong":
            batch = _share(choice.get(_BATCH, base.train.batch), resources.world_size, words)
            changes.setdefault("train", {})["batch"] = batch
        sections = {section: replace(getattr(base, section), **own) for section, own in changes.items()}
        return replace(base, name=None, resources=resources, **sections)
    except UnevenError:
        raise
    except SpecError as error:
        raise SpecError(f"{error} (in the study: {words})") from None


def _share(batch: int, ranks: int, given: str) -> int:
    if batch % ranks:
        raise UnevenError(f"{batch} over {ranks} ranks ({given})")
    return batch // ranks
