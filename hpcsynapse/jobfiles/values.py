"""Values of directives as people write them: numbers, times, sizes, quoted names, file names with patterns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from hpcsynapse.jobfiles.model import Request, Rule
from hpcsynapse.units import format_walltime

BLANKS = " \t"
_MEMORY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*([kmgtw]?)b?", re.IGNORECASE)
_MEBIBYTES = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0**2}
_MACRO = re.compile(r"\$\(([A-Za-z_]+)\)")
# LoadLeveler's variables in file names, and Slurm's patterns for them; `process` is the step's number in its job.
_PATTERNS = {
    "jobid": "%j",
    "cluster": "%j",
    "job_name": "%x",
    "user": "%u",
    "host": "%N",
    "hostname": "%N",
    "schedd_hostname": "%N",
    "stepid": "0",
    "process": "0",
    "base_executable": "%x",
}
_MACROS = {
    "%j": "$(jobid)",
    "%J": "$(jobid)",
    "%A": "$(jobid)",
    "%x": "$(job_name)",
    "%u": "$(user)",
    "%N": "$(host)",
    "%%": "%",
}


def split_quoted(value: str) -> tuple[str, str]:
    """Return the first word, or the text in quotes at the start, and what follows it."""
    if value[:1] in ('"', "'") and value.find(value[0], 1) > 0:
        end = value.index(value[0], 1)
        return value[1:end], value[end + 1 :].strip(BLANKS)
    first, _, rest = value.replace("\t", " ").partition(" ")
    return first, rest.strip(BLANKS)


def token(name: str, parse: Callable[[str], Any] = str) -> Rule:
    """Return a rule for a field that is one word; what stands behind it is prose that people add."""

    def rule(request: Request, value: str) -> str | None:
        first, rest = split_quoted(value)
        setattr(request, name, parse(first))
        return f"{rest!r} behind {first!r} is not part of the value" if rest else None

    return rule


def text(name: str, parse: Callable[[str], Any] = str) -> Rule:
    """Return a rule for a field that is the whole value, without the quotes around it."""

    def rule(request: Request, value: str) -> str | None:
        first, rest = split_quoted(value)
        setattr(request, name, parse(value if rest or value[:1] not in ('"', "'") else first))
        return None

    return rule


def assign(name: str, parse: Callable[[str], Any] = str) -> Rule:
    """Return a rule for a field whose value has been split off and unquoted already."""

    def rule(request: Request, value: str) -> str | None:
        setattr(request, name, parse(value))
        return None

    return rule


def count(value: str) -> int:
    """Return a number of at least one."""
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < 1:
        raise ValueError(f"{value[:60]!r} is not a number of at least 1")
    return int(value)


def number(value: str) -> int:
    """Return a number of at least zero."""
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError(f"{value[:60]!r} is not a number")
    return int(value)


def yes_no(value: str) -> bool:
    """Return what yes, no, true, false, 1 and 0 mean."""
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if value.lower() not in known:
        raise ValueError(f"{value!r} is neither yes nor no")
    return known[value.lower()]


def clock(value: str) -> int:
    """Return the seconds of `[[h:]m:]s` (LoadLeveler, BSC), of `hard,soft` those of the hard limit."""
    parts = value.split(",")[0].strip(BLANKS).split(":")
    if len(parts) > 3 or not all(re.fullmatch(r"[0-9]{1,9}(\.\d+)?", part) for part in parts):
        raise ValueError(f"{value[:60]!r} is not a time; write HH:MM:SS")
    return seconds_of([int(float(part)) for part in parts], value)


def seconds_of(parts: list[int], value: str) -> int:
    """Return the seconds of hours, minutes and seconds, of which the first present may be large."""
    if any(part > 59 for part in parts[1:]):
        raise ValueError(f"{value!r}: minutes and seconds go up to 59")
    total = 0
    for part in parts:
        total = total * 60 + part
    if total == 0:
        raise ValueError(f"{value!r} is no time at all")
    return total


def hms(seconds: int) -> str:
    """Return HH:MM:SS."""
    return format_walltime(timedelta(seconds=seconds))


def memory(value: str) -> int:
    """Return the MiB of `2 gb`, `512M`, `2000` (a bare number is in MB)."""
    match = _MEMORY.fullmatch(value.strip(BLANKS))
    if not match or match[2].lower() == "w":
        raise ValueError(f"{value[:60]!r} is not a size; write for example 2gb")
    return max(1, int(float(match[1]) * _MEBIBYTES[match[2].lower() or "m"])) if float(match[1]) else 0


def from_macros(value: str) -> str:
    """Return a file name with Slurm's patterns for LoadLeveler's variables; raises ValueError for one it lacks."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1].lower()
        if name == "home":
            raise ValueError("$(home) has no pattern elsewhere; write the path out")
        return _PATTERNS.get(name, match[0])

    return _MACRO.sub(replaced, value.replace("%", "%%"))


def with_patterns(value: str, known: Mapping[str, str]) -> str:
    """Return a file name with a queue's own patterns for Slurm's; raises ValueError for one that it lacks."""

    def replaced(match: re.Match[str]) -> str:
        pattern = f"%{match[0][-1]}"  # %5j is %j with five digits
        if pattern not in known:
            raise ValueError(f"{match[0]} has no counterpart")
        return known[pattern]

    return re.sub(r"%\d*.", replaced, value)


def to_macros(value: str) -> str:
    """Return a file name with LoadLeveler's variables for Slurm's patterns; raises ValueError for one it lacks."""
    return with_patterns(value, _MACROS)


def from_bsc(value: str) -> str:
    """Return a file name with Slurm's patterns; BSC's dialect expands %j and %a only."""
    return re.sub(r"%(?![ja])", "%%", value)


def to_bsc(value: str, name: str) -> str:
    """Return a file name with the patterns that BSC's dialect knows, %j and %a; the job's name is written out."""
    return with_patterns(value, {"%j": "%j", "%J": "%j", "%A": "%j", "%a": "%a", "%x": name, "%%": "%"})
