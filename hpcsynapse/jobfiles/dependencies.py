"""What a job waits for, in Slurm's notation (`afterok:12:13,afterany:4`), and as LSF and Grid Engine say it."""

from __future__ import annotations

import re

KINDS = ("after", "afterok", "afterany", "afternotok")
_LSF = {"after": "started", "afterok": "done", "afterany": "ended", "afternotok": "exit"}
_CONDITION = re.compile(r"\s*([a-z]+)\s*\(\s*([0-9]{1,18})\s*\)\s*")


def parse(text: str) -> list[tuple[str, list[str]]]:
    """Return (kind, job ids) of all that must hold; raises ValueError for what more than one queue cannot say."""
    found = []
    for part in text.split(","):
        kind, *jobs = part.split(":")
        if kind not in KINDS or not jobs or not all(re.fullmatch(r"[0-9]{1,18}", job) for job in jobs):
            raise ValueError(f"{text[:60]}: only {', '.join(KINDS)} of job numbers have a counterpart")
        found.append((kind, jobs))
    return found


def to_condition(text: str) -> str:
    """Return the condition behind LSF's `-w`; raises ValueError."""
    return "&&".join(f"{_LSF[kind]}({job})" for kind, jobs in parse(text) for job in jobs)


def from_condition(text: str) -> str:
    """Return what LSF's `-w` asks for where it is jobs by number joined by &&; raises ValueError."""
    words = {word: kind for kind, word in _LSF.items()}
    matches = [_CONDITION.fullmatch(part) for part in text.split("&&")]
    if not all(one and one[1] in words for one in matches):
        raise ValueError(f"{text[:60]}: only {', '.join(words)} of job numbers joined by && have a counterpart")
    return ",".join(f"{words[one[1]]}:{one[2]}" for one in matches if one)
