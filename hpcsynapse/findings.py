"""What a check says of something it looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hpcsynapse.errors import CheckError

_LONGEST = 300  # characters of a message that are shown


@dataclass(frozen=True, slots=True)
class Finding:
    """What is said of one thing that was looked at.

    `level` is ok, warning or error; of job files also refused (by the queue, but converting mends it) and lost (has no
    counterpart in another dialect). `where` is what it is about: resources, job file, a directive. `line` counts from 1
    in a file of the user's; 0 is no line.
    """

    level: str
    where: str
    message: str
    line: int = 0

    def __str__(self) -> str:
        where = f" {self.where}:" if self.where else ""
        message = self.message if len(self.message) <= _LONGEST else f"{self.message[:_LONGEST]}..."
        return f"line {self.line}: {self.level}:{where} {message}" if self.line else f"{self.where}: {message}"


def at_line(line: int, where: str, level: str, message: str) -> Finding:
    """Return a finding about one line of a file; `where` may be empty, or name the directive."""
    return Finding(level, where, message, line)


def by_line(finding: Finding) -> tuple[int, str, str, str]:
    """Return the key that sorts findings as their lines stand in a file."""
    return finding.line, finding.where, finding.level, finding.message


def require(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, or raise CheckError with every error among them."""
    found = list(findings)
    errors = [finding for finding in found if finding.level == "error"]
    if errors:
        raise CheckError("\n".join(f"{finding.where}: {finding.message}" for finding in errors))
    return found
