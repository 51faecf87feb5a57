"""Node lists as Slurm writes them (`n[1-3,7],m[03-05]x`), expanded without `scontrol`, which containers may lack.

    list = host { ("," | blank) host }        host = text { "[" range { "," range } "]" text }
    range = number [ "-" number ]             a number is padded to the width of the first of its range

Source: sbatch(1), --nodelist, and what `scontrol show hostnames` of Slurm 22.05 prints.
"""

from __future__ import annotations

import itertools
import re
from math import prod

from hpcsynapse.errors import SpecError

_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
MAX_HOSTS = 200_000
_MAX_TEXT, _MAX_NAME = 1_000_000, 1000


def expand(text: str) -> list[str]:
    """Return the host names of a node list in the order of `scontrol show hostnames`.

    Raises SpecError naming the list when a bracket or a range is malformed, or when it stands for too many hosts; no
    name is made before that is known.
    """
    if len(text) > _MAX_TEXT:
        raise SpecError(f"node list {_short(text)}: {len(text)} characters are more than {_MAX_TEXT}")
    hosts = [_parsed(part, text) for part in _split(text)]
    if sum(prod(_count(ranges) for ranges in brackets) for _, brackets in hosts) > MAX_HOSTS:
        raise SpecError(f"node list {_short(text)} names more than {MAX_HOSTS} hosts")
    return [name for texts, brackets in hosts for name in _names(texts, brackets)]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _split(text: str) -> list[str]:
    """Split at the commas and blanks that are outside brackets."""
    parts, depth, start = list[str](), 0, 0
    for index, character in enumerate(text):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth not in (0, 1):
            raise SpecError(f"node list {_short(text)}: brackets do not match")
        if depth == 0 and (character == "," or character.isspace()):
            parts.append(text[start:index])
            start = index + 1
    if depth:
        raise SpecError(f"node list {_short(text)}: a bracket is not closed")
    return [part for part in [*parts, text[start:]] if part]


Range = tuple[int, int, int]  # first, last, width


def _parsed(part: str, text: str) -> tuple[list[str], list[list[Range]]]:
    """Return the texts around the brackets of a host, and what stands in each of them."""
    pieces = re.split(r"\[([^\]]*)\]", part)
    if sum(map(len, pieces[::2])) > _MAX_NAME:
        raise SpecError(f"node list {_short(text)}: a name of more than {_MAX_NAME} characters")
    return pieces[::2], [[_range(item, text) for item in inside.split(",")] for inside in pieces[1::2]]


def _range(item: str, text: str) -> Range:
    match = _RANGE.fullmatch(item)
    if not match:
        raise SpecError(f"node list {_short(text)}: {_short(item)} is not a number or a range")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise SpecError(f"node list {_short(text)}: the range {item!r} is reversed")
    return first, last, len(match[1])


def _count(ranges: list[Range]) -> int:
    return sum(last - first + 1 for first, last, _ in ranges)


def _names(texts: list[str], brackets: list[list[Range]]) -> list[str]:
    """Return the names of one host: the last bracket runs fastest, then the first, the last but one slowest (Slurm)."""
    choices = [[f"{n:0{width}d}" for first, last, width in one for n in range(first, last + 1)] for one in brackets]
    turns = [*range(len(choices) - 2, -1, -1), *range(len(choices))[-1:]]
    names = []
    for chosen in itertools.product(*(choices[turn] for turn in turns)):
        numbers = [number for _, number in sorted(zip(turns, chosen, strict=True))]
        names.append("".join(itertools.chain.from_iterable(zip(texts, [*numbers, ""], strict=True))))
    return names


def main(arguments: list[str]) -> int:
    """Print the hosts of a host list, one a line, on nodes that have no scontrol."""
    print("\n".join(expand(arguments[0])))
    return 0
