"""The settings of a description, for a form that is made from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_origin

from hpcsynapse import fields
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.spec.job import SECTIONS

_LEFT_OUT = ("site",)  # sections that are the cluster's and not a run's


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: its path, what it means, kind (text, integer, number, switch, choice, list, table) and default."""

    path: str
    help: str
    kind: str
    default: str
    choices: list[str]


def settings(_index: RunIndex) -> list[Setting]:
    """Return the settings that a run can be given, section by section."""
    return [
        _setting(section, item)
        for section, kind in SECTIONS.items()
        if section not in _LEFT_OUT
        for item in dataclasses.fields(kind)
    ]


def _setting(section: str, item: dataclasses.Field[Any]) -> Setting:
    kind = fields.base_type(fields.hints(SECTIONS[section])[item.name])
    choices = [str(one) for one in item.metadata.get("choices") or ()]
    default = item.default
    plain = default is None or default is dataclasses.MISSING or default == () or default == ""
    shown = "" if plain else ("true" if default else "false") if isinstance(default, bool) else str(default)
    return Setting(f"{section}.{item.name}", item.metadata.get("help", ""), _kind(kind, choices), shown, choices)


def _kind(kind: Any, choices: list[str]) -> str:
    if choices:
        return "choice"
    if get_origin(kind) in (tuple, dict):
        return "list" if get_origin(kind) is tuple else "table"
    return {bool: "switch", int: "integer", float: "number"}.get(kind, "text")
