"""Names of the points of a study: short, unique, and safe as the names of files and jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpcsynapse.spec.job import JobSpec
from hpcsynapse.study.choices import Choice
from hpcsynapse.study.lists import LISTS, StudySpec
from hpcsynapse.study.placeholders import text_of
from hpcsynapse.usercode.checks import label

_LONGEST = 52  # of 64 letters that a run's name may have; a number and that of a repeat follow
_WORD = 20  # letters of a value


def names_of(study: StudySpec, base: JobSpec, points: Sequence[tuple[Choice, JobSpec]]) -> list[str]:
    """Return a name for every point: strategy and geometry, and what else differs between points."""
    parts: dict[str, Callable[[Any], str]] = {
        LISTS["engine"]: str,
        LISTS["model"]: lambda value: _plain(label(value))[:_WORD],
        LISTS["batch"]: "b{}".format,
        **({} if study.setups else {LISTS["gpus"]: "g{}".format}),
        **{path: _named(path) for path in study.vary},
    }
    differing = [path for path in parts if len({repr(choice[path]) for choice, _ in points if path in choice}) > 1]
    names: dict[str, None] = {}
    for choice, spec in points:
        first = "run" if base.command or spec.train.strategy == "auto" else spec.train.strategy
        words = [first, f"{spec.resources.nodes}x{spec.resources.local_size}"]
        words += [parts[path](choice[path]) for path in differing if path in choice]
        names[_unique("-".join(words)[:_LONGEST].rstrip("-._"), names)] = None
    return list(names)


def _plain(text: str, but: str = "") -> str:
    """Return a text with a dash for every letter that is none, nor a digit, nor one of some others."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in but) else "-" for letter in text)


def _named(path: str) -> Callable[[Any], str]:
    """Return what names the values of a setting: `lr0.1`, `compression-fp16`."""
    key = _plain(path.rpartition(".")[2], "_")[:_WORD]

    def name(value: Any) -> str:
        text = _plain(text_of(value), "._")[:_WORD].strip("-")
        return f"{key}{text}" if text[:1].isdigit() else f"{key}-{text}"

    return name


def _unique(name: str, taken: dict[str, None]) -> str:
    """Return a name, numbered where it is taken: names can be alike once they are plain, or cut."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}.{number}"
    return found
