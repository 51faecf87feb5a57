"""Where the node-hours of a run went, start by start, and what each interruption cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hpcsynapse.errors import RecordError
from hpcsynapse.files import read_json
from hpcsynapse.report.interruptions import Interruption
from hpcsynapse.report.loading import DTYPE
from hpcsynapse.report.node_time import DETECTION, REPLAYED, RESTART, USEFUL, WAITING, spent
from hpcsynapse.report.sums import Floats, Records
from hpcsynapse.runs.allocations import Allocation, allocations
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.runs.records import Part, parts
from hpcsynapse.runs.states import RunState
from hpcsynapse.study.folder import has_finished
from hpcsynapse.table import FRACTION, KEY, NUMBER, column, columns
from hpcsynapse.timing import PAUSE, pause_flags

_NO_WORD = "its job script left no word"
_SIGNALS = {"TERM": "told to end", "TIMEOUT": "time limit reached", "PREEMPTED": "preempted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHours:
    """The node-hours of one run; the parts from `useful` to `waiting` add up to `allocated`."""

    run: str = column("name of the run", priority=KEY, always=True)
    starts: int = column("how often it was started", priority=6, always=True)
    interruptions: int = column("starts that ended before the run had finished", priority=6, always=True)
    allocated: float = column(
        "node-hours that the run had nodes for", head="node-hours", unit=NUMBER, priority=8, always=True
    )
    useful: float = column("steps that count, with what passes between them", unit=NUMBER, priority=8, always=True)
    save: float = column("checkpoints", unit=NUMBER, always=True)
    validation: float = column("validations", unit=NUMBER, always=True)
    detection: float = column(
        "from the last finished step to when a failure was on record", unit=NUMBER, priority=7, always=True
    )
    restart: float = column(
        "from a start of the job to its first step, the first start among them", unit=NUMBER, priority=7, always=True
    )
    replayed: float = column(
        "steps that were made again, or of which nothing was kept when the run ended",
        unit=NUMBER,
        priority=7,
        always=True,
    )
    waiting: float = column(
        "nodes without work: after the last step, other marked pauses, nodes that no rank was on",
        unit=NUMBER,
        priority=7,
        always=True,
    )
    goodput: float = column("useful of allocated", unit=FRACTION, priority=8, always=True)
    lost_steps: int = column("steps that were made again, or not kept", head="lost steps", priority=6, always=True)
    exact: bool = column(
        "whether job scripts recorded the begin and end of every start; else what ranks left behind tells", priority=3
    )


COLUMNS = columns(NodeHours)
PARTS = ("useful", "save", "validation", "detection", "restart", "replayed", "waiting")  # in the order of node_time


class _Start(NamedTuple):
    """One start with its node-seconds by part, and the steps of its first rank that were lost."""

    allocation: Allocation
    seconds: Floats
    lost_steps: int
    failure: dict[str, Any]
    save_s: list[float]
    restart_s: float


@dataclass(frozen=True, slots=True)
class LostWork:
    """What is known of a run: a row for all of it, and one for every interruption.

    `save_s` are the seconds of every checkpoint, `restart_s` those from each start to its first step.
    """

    hours: NodeHours
    interruptions: list[Interruption]
    save_s: list[float]
    restart_s: list[float]


def sentence(source: object) -> str:
    """Return the shares of a run's parts in one line, the largest first; empty where its job left no word of them."""
    if not isinstance(source, RunDirectory) or not source.starts.exists():
        return ""
    hours = _of_run(source).hours
    shares = {part: getattr(hours, part) / hours.allocated for part in PARTS}
    told = [f"{part} {100 * share:.1f}%" for part, share in sorted(shares.items(), key=lambda one: -one[1])]
    known = ", ".join(one for one in told if not one.endswith(" 0.0%"))
    return f"{hours.run}: {hours.allocated:.4g} node-hours: {known}"


def lost_work(runs: Iterable[RunDirectory]) -> list[LostWork]:
    """Return where the node-hours of runs went; raises RecordError for one without step records."""
    return [_of_run(run) for run in runs]


def _of_run(run: RunDirectory) -> LostWork:
    by_start = _by_start(run)
    seen = {attempt: _span(lives) for attempt, ranks in by_start.items() for lives in [_first(ranks)]}
    found = allocations(run, seen)
    finished, first_steps = has_finished(run), [_first_step(by_start, one) for one in found]
    starts = []
    for index, one in enumerate(found):
        last = index == len(found) - 1
        kept = min(first_steps[index + 1 :], default=math.inf)
        if last and one.over and not finished:
            kept = _newest_checkpoint(run)
        starts.append(_start(run, one, by_start.get(one.attempt, {}), kept, last and (finished or not one.over)))
    total = sum((one.seconds for one in starts), np.zeros(7))
    if not total.sum() > 0:
        raise RecordError(f"{run.name}: its records have no duration")
    over = starts[-1].allocation.over and not finished
    ended = range(len(starts) if over else len(starts) - 1)
    hours = NodeHours(
        run=run.name,
        starts=len(starts),
        interruptions=len(ended),
        allocated=float(total.sum()) / 3600,
        goodput=float(total[USEFUL] / total.sum()),
        lost_steps=sum(one.lost_steps for one in starts),
        exact=all(one.allocation.known for one in starts),
        **{part: float(seconds) / 3600 for part, seconds in zip(PARTS, total, strict=True)},
    )
    return LostWork(
        hours,
        [_interruption(run, starts, index) for index in ended],
        save_s=[seconds for one in starts for seconds in one.save_s],
        restart_s=[one.restart_s for one in starts],
    )


def _by_start(run: RunDirectory) -> dict[str, dict[str, list[Part]]]:
    """Return for every start, by host, the parts of the lowest rank there; raises RecordError without any."""
    found: dict[str, dict[str, list[Part]]] = {}
    for part in parts(run.timings):
        if part.count:
            hosts = found.setdefault(str(part.header.get("attempt", "0")), {})
            its = hosts.setdefault(str(part.header.get("host")), [])
            if its and part.header["rank"] < its[0].header["rank"]:
                its.clear()
            if not its or its[0].header["rank"] == part.header["rank"]:
                its.append(part)
    if not found:
        raise RecordError(f"{run.name}: no step records in {run.timings}; has the run done a step yet?")
    return found


def _first(hosts: dict[str, list[Part]]) -> list[Part]:
    """Return the parts of the lowest rank of all."""
    return min(hosts.values(), key=lambda its: its[0].header["rank"])


def _records(part: Part) -> Records:
    return np.frombuffer(part.read(), DTYPE)


def _span(lives: list[Part]) -> tuple[float, float]:
    """Return when a rank was started, and when its last record ends; raises RecordError where no record is whole."""
    begun = min(float(part.header.get("started", math.inf)) for part in lives)
    ends = np.concatenate([its["start"] + its["total"] for its in map(_records, lives)])
    if not np.isfinite(ends).any():
        raise RecordError(f"{lives[0].path}: no record has a duration")
    return begun, float(ends[np.isfinite(ends)].max())


def _first_step(by_start: dict[str, dict[str, list[Part]]], one: Allocation) -> float:
    if one.attempt not in by_start:
        return math.inf
    return float(min(_records(part)["step"].min() for part in _first(by_start[one.attempt])))


def _newest_checkpoint(run: RunDirectory) -> float:
    """Return how far the newest checkpoint of the built-in trainer reaches; of other programs nothing is known."""
    try:
        steps = [int(path.stem[5:]) for path in run.checkpoints.glob("step-*.pt") if path.stem[5:].isdecimal()]
    except OSError:
        steps = []
    return max(steps, default=0 if "steps" in (read_json(run.status) or {}) else math.inf)


def _start(run: RunDirectory, one: Allocation, hosts: dict[str, list[Part]], kept: float, goes_on: bool) -> _Start:
    failure = {} if goes_on or not run.evidence(one.attempt).is_dir() else first_failure(run, one.attempt)
    failed = float(failure["time"]) if failure.get("by_itself") else None
    lost = not goes_on and not one.known and not failure and not one.signal
    of_nodes = [
        spent([_records(part) for part in its], one.begun, one.ended, kept, failed, lost) for its in hosts.values()
    ] or [spent([], one.begun, one.ended, kept, failed)]
    used = max(len(of_nodes), one.used)
    first = of_nodes[0]  # ranks without records, and servers, did what the first node did
    seconds = sum(of_nodes, np.zeros(7)) + first * (used - len(of_nodes))
    seconds[WAITING] += max(0, len(one.hosts) - used) * (one.ended - one.begun)
    steps = [_records(part) for part in _first(hosts)] if hosts else []
    again = {int(step) for its in steps for step in its["step"][(its["flags"] & PAUSE) == 0] if step >= kept}
    saves = [float(total) for its in steps for total in its["total"][its["flags"] == pause_flags("checkpoint")]]
    return _Start(one, seconds, len(again), failure, saves, float(first[RESTART]))


def _interruption(run: RunDirectory, starts: list[_Start], index: int) -> Interruption:
    start = starts[index]
    cause, host, evidence = _cause(run, start)
    after = starts[index + 1].seconds[RESTART] if index + 1 < len(starts) else 0.0
    return Interruption(
        run=run.name,
        start=index + 1,
        attempt=start.allocation.attempt,
        time=start.allocation.ended,
        cause=cause,
        host=host,
        evidence=evidence,
        lost_steps=start.lost_steps,
        replayed=float(start.seconds[REPLAYED]) / 3600,
        detection=float(start.seconds[DETECTION]) / 3600,
        waiting=float(start.seconds[WAITING]) / 3600,
        restart=float(after) / 3600,
    )


def _cause(run: RunDirectory, start: _Start) -> tuple[str, str, str]:
    """Return what ended a start, the host and the file that says so; a wrong name would be worse than none."""
    one, failure, told = start.allocation, start.failure, read_json(run.status) or {}
    if failure.get("by_itself"):
        file = run.failure(one.attempt, failure["rank"]).relative_to(run.path)
        return f"rank {failure['rank']}: {failure['reason']}", str(failure["host"]), str(file)
    if told.get("attempt") == one.attempt and told.get("state") == RunState.STOPPED and told.get("reason"):
        return str(told["reason"]), "", run.status.name
    if one.signal:
        return _SIGNALS.get(one.signal, f"signal {one.signal}"), "", run.starts.name
    if failure:
        return "told to end", "", str(run.failure(one.attempt, failure["rank"]).relative_to(run.path))
    if one.code:
        return f"exit code {one.code}", "", run.starts.name
    return ("unknown", "", "") if one.known else (f"unknown: {_NO_WORD}", "", "")
