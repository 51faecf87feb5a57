"""When each start of a run had which nodes: what job scripts recorded, else what the ranks left behind tells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hpcsynapse.files import read_json, read_json_lines
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.runs.reliability import DAY, failure_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One start of a run: from when to when (Unix time) it had nodes, and how its job script ended.

    `known` tells whether the job script recorded both times; of a script that was killed the end is the last sign of
    life. `over` is false for a start of which no end is known and nothing has followed. `used` is on how many hosts
    ranks or parameter servers left word, `code` the exit code, None where none is known.
    """

    attempt: str
    begun: float
    ended: float
    hosts: tuple[str, ...]
    known: bool
    over: bool
    used: int
    code: int | None = None
    signal: str = ""


@dataclass(slots=True)
class _Told:
    """What was found of one start."""

    begun: float = math.inf
    ended: float = math.nan
    seen: float = -math.inf  # last sign of life
    hosts: list[str] = field(default_factory=list)
    used: int = 0
    code: int | None = None
    signal: str = ""
    known: bool = False


def allocations(run: RunDirectory, seen: Mapping[str, tuple[float, float]]) -> list[Allocation]:
    """Return the starts of a run by time; `seen` is when the records of each begin and end.

    Starts within one allocation, `JOB+1` after `JOB`, follow one another without a gap.
    """
    told: dict[str, _Told] = {}
    for attempt, record in _events(run):
        _take(told.setdefault(attempt, _Told()), record)
    for attempt, first, last, hosts in _evidence(run):
        one = told.setdefault(attempt, _Told())
        one.seen = max(one.seen, last)
        one.hosts, one.used = one.hosts or hosts, len(hosts)
        if not one.known:
            one.begun = min(one.begun, first)
    for attempt, (first, last) in seen.items():
        one = told.setdefault(attempt, _Told())
        one.begun, one.seen = min(one.begun, first), max(one.seen, last)
    found = sorted(
        ((name, one) for name, one in told.items() if math.isfinite(one.begun)), key=lambda item: item[1].begun
    )
    return [_joined(index, found) for index in range(len(found))]


def rate_so_far(run: RunDirectory) -> float:
    """Return the failures per 1,000 node-days that a run has seen, beside the belief before (`reliability`)."""
    starts = allocations(run, {})
    node_days = sum((one.ended - one.begun) * max(1, len(one.hosts)) for one in starts) / DAY
    failed = [one for one in starts[:-1] if run.evidence(one.attempt).is_dir()]
    return failure_rate(sum(bool(first_failure(run, one.attempt).get("by_itself")) for one in failed), node_days)


def _joined(index: int, found: list[tuple[str, _Told]]) -> Allocation:
    """Return one start; an end that is not known follows from the start behind it, or from the last sign of life."""
    attempt, one = found[index]
    job = attempt.partition("+")[0]
    behind = found[index + 1] if index + 1 < len(found) else None
    same = behind is not None and behind[0].partition("+")[0] == job
    first = found[[name for name, _ in found].index(job)][1] if any(name == job for name, _ in found) else one
    if behind is not None and same:
        ended = behind[1].begun
    else:
        ended = first.ended if math.isfinite(first.ended) else max(one.begun, one.seen)
        if behind is not None and not math.isfinite(first.ended):
            ended = min(ended, behind[1].begun)
    closed = same or math.isfinite(first.ended)
    return Allocation(
        attempt=attempt,
        begun=one.begun,
        ended=max(ended, one.begun),
        hosts=tuple(one.hosts or first.hosts),
        known=first.known and closed,
        over=closed or behind is not None,
        used=one.used,
        code=None if same else first.code,
        signal="" if same else first.signal,
    )


def _events(run: RunDirectory) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what job scripts recorded, and what exit.json says of the newest start, by start."""
    for record in (*read_json_lines(run.starts), {"event": "released", **(read_json(run.exit) or {})}):
        if isinstance(record.get("attempt"), str) and _is_time(record.get("time")):
            yield record["attempt"], record


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < 1e12


def _take(one: _Told, record: dict[str, Any]) -> None:
    when, event, hosts = float(record["time"]), record.get("event"), record.get("hosts")
    if event in ("allocated", "begin"):
        one.begun, one.known = min(one.begun, when), True
    elif event == "released":
        one.ended, one.signal = when, str(record.get("signal") or "")
        code = record.get("code", record.get("exit_code"))
        one.code = code if isinstance(code, int) else None
        if _is_time(record.get("start")):
            one.begun, one.known = min(one.begun, float(record["start"])), True
    if isinstance(hosts, str):
        one.hosts = hosts.split()
    elif isinstance(hosts, list):
        one.hosts = [str(host) for host in hosts]


def _evidence(run: RunDirectory) -> Iterator[tuple[str, float, float, list[str]]]:
    """Yield for every start when its ranks first and last left a file, and the hosts that they were on."""
    with suppress(OSError):
        for folder in run.evidence("").iterdir():
            times, hosts = [], dict[str, None]()
            for path in folder.glob("*.json"):
                with suppress(OSError):
                    times.append(path.stat().st_mtime)
                if path.name.startswith(("rank-", "ps-")) and (record := read_json(path)):
                    hosts[str(record.get("host", ""))] = None
            if times:
                yield folder.name, min(times), max(times), list(hosts)
