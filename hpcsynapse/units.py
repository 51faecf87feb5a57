"""Durations and sizes as people write them, and back."""

from __future__ import annotations

import re
from datetime import timedelta

from hpcsynapse.errors import SpecError

_CLOCK = re.compile(r"(?:(?P<days>\d{1,4})-)?(?P<hours>\d{1,5})(?::(?P<minutes>\d{1,2}))?(?::(?P<seconds>\d{1,2}))?")
_SUFFIXED = re.compile(r"(?P<number>\d{1,9})(?P<unit>[smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RANGE = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?", re.ASCII)
_SIZE = re.compile(r"(?P<number>\d{1,9})(?P<unit>[KMGT]?)B?", re.IGNORECASE)


def counted(number: int, what: str) -> str:
    """Return a number of things: `1 node`, `4 nodes`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def parse_walltime(text: str) -> timedelta:
    """Return the duration written as `HH:MM:SS`, `D-HH:MM:SS`, `D-HH`, `90s`, `90m`, `2h` or `1d`.

    A bare number or `MM:SS` means different things to different queues and is refused.
    Raises SpecError naming the text.
    """
    text = text.strip()
    if match := _SUFFIXED.fullmatch(text):
        seconds = int(match["number"]) * _UNIT_SECONDS[match["unit"]]
    elif (match := _CLOCK.fullmatch(text)) and (match["days"] or match["seconds"] is not None):
        days, hours, minutes, rest = (int(match[part] or 0) for part in ("days", "hours", "minutes", "seconds"))
        if minutes > 59 or rest > 59:
            raise SpecError(f"time {text!r}: minutes and seconds go up to 59; write for example 10:00:00 or 90m")
        if match["days"] and hours > 23:
            raise SpecError(f"time {text!r}: after days, hours go up to 23")
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    else:
        raise SpecError(f"time {text!r} is not a duration; write HH:MM:SS, D-HH:MM:SS, 90m or 2h")
    if not 0 < seconds <= 365 * 86400:
        raise SpecError(f"time {text!r} must be more than zero and at most a year")
    return timedelta(seconds=seconds)


def format_walltime(duration: timedelta) -> str:
    """Return `HH:MM:SS` (hours may exceed 24), the form every queue here reads."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


def parse_mebibytes(text: str) -> int:
    """Return the size written as `64G`, `512M`, `1T` in MiB; `0` asks for all the memory of a node.

    Raises SpecError naming the text.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise SpecError(f"memory {text!r} is not a size; write for example 64G, 512M, or 0 for all of a node")
    number, unit = int(match["number"]), match["unit"].upper()
    if number == 0:
        return 0
    if not unit:
        raise SpecError(f"memory {text!r} has no unit; write {text}M or {text}G")
    mebibytes = number * {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}[unit]
    if mebibytes < 1:
        raise SpecError(f"memory {text!r} is less than one MiB")
    return int(mebibytes)


def format_seconds(seconds: float) -> str:
    """Return a duration for people: `42 s`, `3:07 min`, `2:15 h`, `3 d 04 h`."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 6000:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 48 * 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def parse_bytes(text: str) -> int:
    """Return the size written as `100G`, `512M`, `4K` or a bare number of bytes; raises SpecError naming the text."""
    match = _SIZE.fullmatch(text.strip())
    if not match or not int(match["number"]):
        raise SpecError(f"size {text!r} is not a number of bytes above zero; write for example 100G or 512M")
    return int(match["number"]) << 10 * " KMGT".index(match["unit"].upper() or " ")


def format_bytes(size: float) -> str:
    """Return a number of bytes for people: `512 B`, `3.4 MiB`."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def parse_range(name: str, text: str) -> tuple[int, int]:
    """Return the first and last of numbers written as `100-200` or `7`; raises SpecError with the setting's name."""
    match = _RANGE.fullmatch(text.strip())
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise SpecError(f"{name} {text}: write a number, or the first and the last one, as 100-200")
    return int(match[1]), int(match[2] or match[1])


def parse_numbers(name: str, text: str, most: int = 1_000_000) -> frozenset[int]:
    """Return numbers written as `0,4-7`, all below `most`; raises SpecError with the setting's name."""
    found = set[int]()
    for part in text.split(","):
        first, last = parse_range(name, part)
        if last >= most:
            raise SpecError(f"{name} {text}: a number is at most {most - 1}")
        found.update(range(first, last + 1))
    return frozenset(found)
