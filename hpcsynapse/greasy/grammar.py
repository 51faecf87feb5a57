"""A line of a task list as Greasy itself reads it, regular expression by regular expression.

Source: Greasy 2.2.3, `AbstractEngine::parseTaskFile` in src/abstractengine.cpp. Its regular expressions are POSIX ones
of the C locale: a blank is a space or a tab and nothing else, and `.*` goes as far as it can.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BLANKS = " \t"
# What the kernel takes as one word of an argument list (MAX_ARG_STRLEN less the closing NUL, execve(2)).
LONGEST_COMMAND = 131_071

_FOLDER = re.compile(r".(@.*@)\]", re.DOTALL)  # anywhere in the line
_WAITS = re.compile(r"[ \t]*\[#")
_DEPENDENCIES = re.compile(r"[ \t]*\[(#.*#)\][ \t]*(.*)", re.DOTALL)
_ALLOWED = re.compile(r"[0-9, -]*")


@dataclass(frozen=True, slots=True)
class Reading:
    """What Greasy takes from a line: folder and dependencies are None where it finds none."""

    command: str
    folder: str | None
    after: str | None


def greasy_reads(line: str) -> Reading | None:
    """Return what Greasy takes from a line that is neither blank nor a comment, or None where it drops the line."""
    folder = None
    if match := _FOLDER.search(line):
        folder = match[1][1:-1].strip(BLANKS)
        line = line.replace(f"[{match[1]}]", "")
    if not _WAITS.match(line):
        return Reading(line.strip(BLANKS), folder, None)
    found = _DEPENDENCIES.fullmatch(line)
    if not found or not found[2] or not _ALLOWED.fullmatch(found[1][1:-1]):
        return None
    return Reading(found[2].strip(BLANKS), folder, found[1][1:-1].strip(" "))


def odd_blank(text: str) -> str | None:
    """Return the first character that looks like a blank and is none for Greasy or the shell."""
    return next((char for char in text if char not in BLANKS and char.isspace()), None)


def describe(char: str) -> str:
    """Return a character by its number and, for those that people meet, by its name."""
    names = {
        "\t": "a tab",
        "\u00a0": "a no-break space",
        "\ufeff": "a byte order mark",
        "\0": "a NUL byte",
        "\r": "a carriage return",
    }
    number = f"U+{ord(char):04X}"
    return f"{names[char]} ({number})" if char in names else number
