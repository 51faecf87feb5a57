"""Generic resources in Slurm's notation: what a job asks for, and what sinfo and scontrol say of nodes.

A request is `name[:kind][:count]`, several separated by commas (sbatch(1), --gres); nodes have in addition where the
resource is attached or which of it is in use, as in `gpu:1g.10gb:7(S:0-1)` (sinfo(1), gres.conf(5)). A kind may begin
with a digit (`2080ti`, `1g.10gb+me`, `80gb`); a number with one of the suffixes of 1024 (k, m, g, t, p) is a count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WORD = r"[^\s:=,()/-][^\s:=,()/]*"
_COUNT = re.compile(r"([0-9]{1,12})([kmgtp]?)", re.IGNORECASE)
_ITEM = re.compile(rf"(?:gres:)?({_WORD})((?::{_WORD}){{0,2}})")
# GresUsed has `(null)` where a resource has no kind.
_OF_A_NODE = re.compile(rf"(?:gres[:/])?({_WORD})(?::\(null\))?((?:[:=]{_WORD}){{0,3}})(?:\([^()]*\))?")
_SEPARATOR = re.compile(r",(?![^(]*\))")
_NOTHING = ("", "none", "(null)", "n/a")


@dataclass(frozen=True, slots=True)
class Gres:
    """So many of one resource, of one kind where it is told."""

    name: str
    kind: str | None
    count: int

    def __str__(self) -> str:
        return ":".join(part for part in (self.name, self.kind, str(self.count)) if part)


def parse_request(text: str) -> list[Gres]:
    """Return what `--gres` asks for on each node; raises ValueError for what sbatch refuses."""
    return _parse(text, text.split(","), _ITEM)


def parse_gpus(text: str) -> list[Gres]:
    """Return what `--gpus`, `--gpus-per-node` or `--gpus-per-task` asks for: `[kind:]count`, or a kind alone."""
    return _parse(text, [f"gpu:{item}" for item in text.split(",")], _ITEM)


def parse_node(text: str) -> list[Gres]:
    """Return what a node has, from sinfo's %G or scontrol's Gres; raises ValueError where it is no such list."""
    return _parse(text, _SEPARATOR.split(text.strip()), _OF_A_NODE)


def total(resources: Iterable[Gres], name: str = "gpu") -> int:
    """Return how many there are of one resource, of all kinds together."""
    return sum(one.count for one in resources if one.name == name)


def count(text: str) -> int:
    """Return a count, which may have a suffix (2k is 2048); raises ValueError."""
    match = _COUNT.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:60]!r} is not a count")
    return int(match[1]) << 10 * " kmgtp".index(match[2].lower() or " ")


def _parse(text: str, items: list[str], pattern: re.Pattern[str]) -> list[Gres]:
    if text.strip().lower() in _NOTHING:
        return []
    return [_one(item, text, pattern) for item in items]


def _one(item: str, text: str, pattern: re.Pattern[str]) -> Gres:
    match = pattern.fullmatch(item)
    fields = [part for part in re.split("[:=]", match[2])[1:] if part != "no_consume"] if match else [""] * 3
    if not match or len(fields) > 2 or (len(fields) == 2 and not _COUNT.fullmatch(fields[1])):
        raise ValueError(f"{text[:60]!r} is not NAME[:KIND][:NUMBER], as in gpu:4 or gpu:2080ti:8")
    number = fields.pop() if fields and _COUNT.fullmatch(fields[-1]) else "1"
    return Gres(match[1], fields[0] if fields else None, count(number))
