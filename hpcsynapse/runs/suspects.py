"""Nodes that evidence of earlier starts of a run speaks against: two strikes, which expire.

A strike is a start whose first failure was on the node and has to do with a machine: ranks that ended without a word or
hung, a crash by SIGSEGV, SIGBUS and the like, an error, a rank that could not be placed. A process that was killed from
outside says nothing of its node, and what fails in the same way on several nodes is the program's fault.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure

STRIKES = 2
EXPIRY = 7 * 86400.0  # seconds after which a strike no longer counts
_FROM_OUTSIDE = ("killed by SIGKILL", "killed by SIGTERM", "killed by SIGINT", "stopped by a signal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """The first failure of one start: on which host, why, when (Unix time)."""

    host: str
    reason: str
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A node that is left out, and why."""

    host: str
    reasons: tuple[str, ...]


def judge(strikes: Iterable[Strike], now: float) -> list[Suspect]:
    """Return the hosts with two strikes at least that have not expired; a pure function."""
    fresh = [one for one in strikes if now - one.time < EXPIRY and not one.reason.startswith(_FROM_OUTSIDE)]
    hosts_of, by_host = defaultdict[str, set[str]](set), defaultdict[str, list[str]](list)
    for one in fresh:
        hosts_of[one.reason].add(one.host)
    for one in fresh:
        if len(hosts_of[one.reason]) == 1:
            by_host[one.host].append(one.reason)
    return [Suspect(host=host, reasons=tuple(told)) for host, told in by_host.items() if len(told) >= STRIKES]


def suspects(run: RunDirectory, now: float | None = None) -> list[Suspect]:
    """Return the hosts that evidence of a run's starts speaks against."""
    return judge(_strikes(run), time.time() if now is None else now)


def _strikes(run: RunDirectory) -> Sequence[Strike]:
    try:
        folders = [path for path in run.evidence("").iterdir() if path.is_dir()]
    except OSError:
        return []
    found = []
    for folder in folders:
        failure = first_failure(run, folder.name)
        if failure.get("by_itself"):
            when = failure.get("time", folder.stat().st_mtime)
            found.append(Strike(host=str(failure["host"]), reason=str(failure["reason"]), time=float(when)))
    return found
