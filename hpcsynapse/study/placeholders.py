"""Placeholders in a user's own command: `python train.py --batch {batch}` takes what a study varies.

A name in braces, `{batch}` or `{train.batch}`, is that of a varied setting or `seed`, which repeats vary. Only names of
letters, digits, `_` and `.` are looked at: JSON, `awk '{print $1}'` and the shell's `${NAME}` pass as they are, and
`{{name}}` becomes `{name}`. A name that the study does not vary passes too, unless it is meant for the study: it is
one of a setting, is like one that is varied, or more is varied than the size of the runs.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import nearest
from hpcsynapse.spec.job import SECTIONS, JobSpec

SEED = "train.seed"
_NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_PARTS = re.compile(rf"(?P<shell>\$\{{[^{{}}]*\}})|\{{(?P<kept>\{{{_NAME}\}})\}}|\{{(?P<name>{_NAME})\}}", re.ASCII)


def paths_by_name(paths: Iterable[str]) -> dict[str, str]:
    """Return the settings that names in braces mean: whole paths, and last parts that only one of them has."""
    known = [*dict.fromkeys([*paths, SEED])]
    count = Counter(path.rpartition(".")[2] for path in known)
    short = {path.rpartition(".")[2]: path for path in known if count[path.rpartition(".")[2]] == 1}
    return short | {path: path for path in known}


def used(command: Sequence[str], known: Mapping[str, str]) -> set[str]:
    """Return the settings that a command has placeholders for; raises SpecError for names that mean none."""
    found = (_path(match, known) for word in command for match in _PARTS.finditer(word))
    return {path for path in found if path}


def fill(command: Sequence[str], known: Mapping[str, str], spec: JobSpec) -> tuple[str, ...]:
    """Return a command with the values of a run in the place of names; raises SpecError for what is none."""

    def value(match: re.Match[str]) -> str:
        path = _path(match, known)
        return text_of(value_at(spec, path)) if path else match["kept"] or match[0]

    return tuple(_PARTS.sub(value, word) for word in command)


def value_at(spec: JobSpec, path: str) -> Any:
    """Return the value that a description has at a path, `section.key` or `section.table.key`."""
    section, name, *inner = path.split(".", 2)
    value = getattr(getattr(spec, section), name)
    return value.get(inner[0]) if inner else value


def text_of(value: Any) -> str:
    """Return a value as a word of a command, or in a table."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(text_of, value))
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _path(match: re.Match[str], known: Mapping[str, str]) -> str | None:
    """Return the setting that a name in braces means, None for what is no such name."""
    name = match["name"]
    if name is None or name in known:
        return known.get(name or "")
    near = nearest(name, known)
    if not (near or _is_setting(name) or any(_shapes_training(path) for path in known.values())):
        return None
    names = ", ".join(f"{{{one}}}" for one in known)
    raise SpecError(
        f"command: {{{name}}} is nothing that this study varies{near}; there are {names}; "
        f"write {{{{{name}}}}} for the braces themselves"
    )


def _is_setting(name: str) -> bool:
    section, _, key = name.rpartition(".")
    return any(key in fields.hints(kind) for own, kind in SECTIONS.items() if section in ("", own))


def _shapes_training(path: str) -> bool:
    """Tell whether a setting is more than the size of a run, or the seed."""
    return path != SEED and path.partition(".")[0] != "resources"
