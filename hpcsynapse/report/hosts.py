"""Hosts that have been slow over the runs of a folder, and which of them the next job should leave out.

A host was slow in a run when one of its ranks was (stragglers.py). It is left out when it was slow in at least half of
the newest RECENT runs in which its ranks could be compared with others, of which there must be LEAST. Runs older than
MAX_AGE are not looked at, so a host that was repaired comes back by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, mode

from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.report.loading import LoadedRun, load
from hpcsynapse.report.stragglers import RankTime, rank_times
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.study.folder import StudyDirectory
from hpcsynapse.table import FRACTION, KEY, SECONDS, column, columns

RECENT = 5
LEAST = 3
MAX_AGE = timedelta(days=30)
MAX_RUNS = 200
# A label of RFC 1123 and its domain. What stands in a record's header is a value from outside.
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTime:
    """One host over several runs; the fields, in this order, are the columns. None: not known."""

    host: str = column("host, without its domain", priority=KEY, always=True)
    runs: int = column("runs in which its ranks were compared with others, the newest ones", priority=7)
    slow_runs: int = column("those in which one of its ranks was slow", head="slow in", priority=8, always=True)
    ranks: str = column("ranks that were slow, of all runs", priority=4)
    devices: str = column("devices that these were given", priority=3)
    phase: str = column(
        "where most of the difference was, in most of the slow runs; of a host never slow: empty", head="mostly in"
    )
    excess: float = column(
        "how much longer its slowest rank took than the others, a fraction; median over the runs",
        head="longer by",
        unit=FRACTION,
        priority=8,
        always=True,
    )
    delay_s: float | None = column(
        "by how much a mean step would be shorter without that rank, median over the runs", unit=SECONDS
    )
    last_seen: str = column("when the newest of these runs was recorded, UTC", priority=4)
    exclude: bool = column(
        f"whether the next job should leave it out: slow in at least half of the runs, of {LEAST} or more",
        head="leave out",
        priority=8,
        always=True,
    )


COLUMNS = columns(HostTime)


@dataclass(frozen=True, slots=True)
class _Seen:
    started: float
    ranks: list[RankTime]


def host_times(runs: Iterable[RunDirectory | Path]) -> list[HostTime]:
    """Return every host of these runs, slowest first; runs without usable records tell nothing and are passed over."""
    by_host: dict[str, list[_Seen]] = {}
    for run in runs:
        try:
            loaded = load(run)
            ranks = rank_times(loaded)
        except RecordError:
            continue
        own: dict[str, list[RankTime]] = {}
        for one in ranks:
            own.setdefault(one.host.partition(".")[0], []).append(one)
        for host, its in own.items():
            by_host.setdefault(host, []).append(_Seen(_date(loaded), its))
    found = [_host(host, seen) for host, seen in by_host.items()]
    return sorted(found, key=lambda one: (not one.exclude, -one.excess, one.host))


def _date(run: LoadedRun) -> float:
    newest = float(run.start.max(initial=0.0))
    return newest if 0 <= newest < 1 << 33 else 0.0  # also for a record that says nan


def _host(host: str, seen: list[_Seen]) -> HostTime:
    newest = sorted(seen, key=lambda one: one.started)[-RECENT:]
    worst = [max(one.ranks, key=lambda rank: rank.excess) for one in newest]
    slow = [rank for one in newest for rank in one.ranks if rank.slow]
    slow_runs = sum(any(rank.slow for rank in one.ranks) for one in newest)
    delays = [rank.delay_s for rank in worst if rank.delay_s is not None]
    return HostTime(
        host=host,
        runs=len(newest),
        slow_runs=slow_runs,
        ranks=" ".join(str(rank) for rank in sorted({one.rank for one in slow})),
        devices=" ".join(sorted({one.device for one in slow if one.device})),
        phase=mode(one.phase for one in slow) if slow else "",
        excess=median(one.excess for one in worst),
        delay_s=median(delays) if delays else None,
        last_seen=datetime.fromtimestamp(newest[-1].started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        exclude=len(newest) >= LEAST and 2 * slow_runs >= len(newest),
    )


def runs_of(folder: Path, now: float | None = None) -> list[RunDirectory]:
    """Return the newest runs of a folder and of its studies that are not older than MAX_AGE, MAX_RUNS at most."""
    found = {run.path: run for run in RunDirectory.all(folder)}
    for study in StudyDirectory.all(folder):
        found.update({run.path: run for run in study.runs()})
    oldest = (time.time() if now is None else now) - MAX_AGE.total_seconds()
    dated = sorted(((run.run_toml.stat().st_mtime, run.path) for run in found.values()), reverse=True)
    return [found[path] for when, path in dated[:MAX_RUNS] if when >= oldest]


def slow_hosts(folder: Path, scheduler: str) -> list[HostTime]:
    """Return the hosts that the next job of this queue should leave out, by the runs that it was given before.

    Names that no host can have are passed over.
    """
    return [
        one
        for one in host_times(run for run in runs_of(folder) if _queue(run) == scheduler)
        if one.exclude and _HOST.fullmatch(one.host)
    ]


def _queue(run: RunDirectory) -> str:
    try:
        return run.load_spec().queue.scheduler
    except SpecError:
        return ""
