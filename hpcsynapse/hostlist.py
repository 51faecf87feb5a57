"""Node lists as Slurm writes them (`n[1-3,7],m[03-05]x`), expanded without `scontrol`, which containers may lack."""

from __future__ import annotations

import itertools
import re
import sys

from hpcsynapse.errors import SpecError

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
MAX_HOSTS = 200_000


def expand(text: str) -> list[str]:
    """Return the host names of a node list in its order; several brackets and zero padding are understood.

    Raises SpecError naming the list when a bracket or a range is malformed.
    """
    return [host for part in _split(text) for host in _expand_one(part, text)]


def _split(text: str) -> list[str]:
    """Split at the commas that are outside brackets."""
    parts, depth, current = [], 0, ""
    for character in text.strip():
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth not in (0, 1):
            raise SpecError(f"node list {text!r}: brackets do not match")
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    if depth:
        raise SpecError(f"node list {text!r}: a bracket is not closed")
    return [part for part in [*parts, current] if part]


def _expand_one(part: str, text: str) -> list[str]:
    pieces = re.split(r"\[([^\]]*)\]", part)
    choices = [[piece] if index % 2 == 0 else _ranges(piece, text) for index, piece in enumerate(pieces)]
    total = 1
    for options in choices:
        total *= len(options)
    if total > MAX_HOSTS:
        raise SpecError(f"node list {text!r} names more than {MAX_HOSTS} hosts")
    return ["".join(combination) for combination in itertools.product(*choices)]


def _ranges(inside: str, text: str) -> list[str]:
    numbers: list[str] = []
    for item in inside.split(","):
        match = _RANGE.fullmatch(item.strip())
        if not match:
            raise SpecError(f"node list {text!r}: {item!r} is not a number or a range")
        first, last = match[1], match[2] or match[1]
        if int(last) < int(first) or int(last) - int(first) >= MAX_HOSTS:
            raise SpecError(f"node list {text!r}: the range {item!r} is reversed or too large")
        numbers.extend(f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return numbers


if __name__ == "__main__":  # used by job scripts on nodes that have no scontrol
    print("\n".join(expand(sys.argv[1])))
