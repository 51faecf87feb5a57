"""Job arrays in Slurm's notation (`0-9:2,15%4`), and as the queues say them that know less."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")


@dataclass(frozen=True, slots=True)
class Array:
    """The numbers of an array's tasks, as (first, last, step), and how many of them may run at a time."""

    ranges: tuple[tuple[int, int, int], ...]
    at_once: int | None = None

    def __str__(self) -> str:
        return ",".join(_range(*one) for one in self.ranges) + (f"%{self.at_once}" if self.at_once else "")


def _range(first: int, last: int, step: int) -> str:
    """Return one range in the shortest form."""
    return str(first) if first == last else f"{first}-{last}" + (f":{step}" if step != 1 else "")


def parse(text: str) -> Array:
    """Return the array of a text; raises ValueError for what is none."""
    numbers, limited, at_once = text.partition("%")
    matches = [_PART.fullmatch(part.strip()) for part in numbers.split(",")]
    if not all(matches) or (limited and not re.fullmatch(r"[1-9][0-9]{0,8}", at_once)):
        raise ValueError(f"{text[:60]!r} is no array; write 1-10, or 1-10:2%4 for every second, four at a time")
    ranges = tuple((int(one[1]), int(one[2] or one[1]), int(one[3] or 1)) for one in matches if one)
    if any(last < first or step < 1 for first, last, step in ranges):
        raise ValueError(f"{text[:60]!r}: the last number is below the first, or the step is 0")
    return Array(ranges, int(at_once) if limited else None)


def one_range(text: str, queue: str, lowest: int) -> Array:
    """Return an array of one range that begins at `lowest` or above; raises ValueError that says what `queue` lacks."""
    array = parse(text)
    if len(array.ranges) > 1:
        raise ValueError(f"{text[:60]}: {queue} takes one range, not a list")
    if array.ranges[0][0] < lowest:
        raise ValueError(f"{text[:60]}: {queue} counts from {lowest}")
    return array
