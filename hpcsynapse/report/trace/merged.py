"""Traces of other programs beside the steps: Horovod's timeline, and what torch.profiler exports.

Both are Chrome's JSON, and both tell which Unix time their times are counted from. Horovod's times are relative to
`start_time_since_epoch_in_micros` of its first event, torch's to `baseTimeNanoseconds`.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import why_unreadable
from hpcsynapse.files import loads
from hpcsynapse.report.trace.events import Thread, TraceWriter
from hpcsynapse.report.trace.steps import LATEST

FIRST_PROCESS = 1_000_001  # numbers of their processes, behind the run's
_LONGEST = 200  # characters of a name
_MOST_BYTES = 512 << 20
_NAMED = re.compile(r"rank-(\d{5,9})\.")
_TRAILING = re.compile(r",?\s*\]?\s*\Z")  # a timeline whose program was killed has no end


@dataclass
class Lane:
    """One thread of a trace: its process and its name, and slices as (begin, end, name), ns since an origin."""

    process: str
    name: str
    slices: list[tuple[int, int, str]] = field(default_factory=list)
    open: list[tuple[int, str]] = field(default_factory=list)


def read_trace(path: Path, origin: float) -> tuple[str, int | None, list[Lane]]:
    """Return a title, the rank that a trace is of where it tells one, and its threads, from `origin` on (Unix time).

    Raises SpecError naming the file when it is not a trace whose times are known.
    """
    document = _load(path)
    events = document.get("traceEvents") if isinstance(document, dict) else document
    if not isinstance(events, list):
        raise SpecError(f"{path}: no trace in Chrome's JSON format")
    events = [event for event in events if isinstance(event, dict)]
    base = _base(document, events)
    if base is None:
        raise SpecError(f"{path}: it does not tell what its times are counted from, as Horovod and torch.profiler do")
    about = document.get("distributedInfo") if isinstance(document, dict) else None
    rank = about.get("rank") if isinstance(about, dict) else rank_of(path)
    lanes = [lane for lane in _lanes(events, base - origin).values() if lane.slices]
    kind = "Horovod" if isinstance(document, list) else "profiler"
    if isinstance(rank, int):
        return f"{kind}, rank {rank}", rank, lanes
    return f"{kind} {path.name}", None, lanes


def rank_of(path: Path) -> int | None:
    """Return the rank that the name of a trace tells, as the trainer writes them."""
    match = _NAMED.match(path.name)
    return int(match[1]) if match else None


def write_trace(writer: TraceWriter, process: int, title: str, lanes: list[Lane], latest: int) -> None:
    """Write the slices of a trace from time 0 to `latest` (ns); what sticks out of one around it is cut off there."""
    writer.process(process, title)
    for number, lane in enumerate(lanes):
        thread = Thread(process, number, f"{lane.process} {lane.name}".strip()[:_LONGEST])
        writer.thread(thread)
        own = sorted(
            (one for one in lane.slices if one[0] >= 0 and one[1] <= latest), key=lambda one: (one[0], -one[1])
        )
        writer.nested(thread, list(_within(own)))


def _within(slices: Iterable[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Yield slices, by begin and the longer ones first, so cut that each lies within those around it."""
    around: list[int] = []
    for begin, end, name in slices:
        while around and around[-1] <= begin:
            around.pop()
        last = min(end, around[-1]) if around else end
        around.append(last)
        yield begin, last, name


def _load(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SpecError(f"{path}: more than {_MOST_BYTES >> 20} MB; profile fewer steps")
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        text = raw[:_MOST_BYTES].decode("utf-8", "replace")
        if text.lstrip().startswith("["):
            text = _TRAILING.sub("", text) + "]"
        return loads(text)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: {why_unreadable(error)}") from None


def _base(document: Any, events: list[dict[str, Any]]) -> float | None:
    """Return the Unix time (s) that the times of a trace are counted from."""
    if isinstance(document, dict):
        told, unit = document.get("baseTimeNanoseconds"), 1e9
    else:
        told, unit = next((found for event in events if (found := _horovod_start(event))), None), 1e6
    base = float(told) / unit if isinstance(told, (int, float)) else math.nan
    return base if 0 < base < LATEST else None


def _horovod_start(event: dict[str, Any]) -> Any:
    arguments = event.get("args")
    return arguments.get("start_time_since_epoch_in_micros") if isinstance(arguments, dict) else None


def _lanes(events: list[dict[str, Any]], later: float) -> dict[tuple[str, str], Lane]:
    """Return the threads of a trace with their slices, from complete events and from pairs of begin and end.

    Its times (microseconds) are so much later (s) than the origin.
    """
    names: dict[tuple[str, str, str], str] = {}
    found: dict[tuple[str, str], Lane] = {}
    for event in events:
        kind, arguments = event.get("ph"), event.get("args")
        place = (str(event.get("pid", "")), str(event.get("tid", "")))
        if kind == "M" and isinstance(arguments, dict) and isinstance(arguments.get("name"), str):
            key = (str(event.get("name")), place[0], place[1] if event.get("name") == "thread_name" else "")
            names[key] = arguments["name"]
            continue
        when, name = event.get("ts"), str(event.get("name", ""))[:_LONGEST]
        if not isinstance(when, (int, float)) or abs(when) > LATEST * 1e6 or kind not in ("X", "B", "E"):
            continue
        lane = found.setdefault(place, Lane("", ""))
        begin = round(later * 1e9 + when * 1e3)
        if kind == "X" and isinstance(event.get("dur"), (int, float)) and 0 <= event["dur"] < LATEST * 1e6:
            lane.slices.append((begin, begin + round(event["dur"] * 1e3), name))
        elif kind == "B":
            lane.open.append((begin, name))
        elif kind == "E" and lane.open:
            begun, name = lane.open.pop()
            lane.slices.append((begun, max(begun, begin), name))
    for (process, thread), lane in found.items():
        lane.process = names.get(("process_name", process, ""), process)
        lane.name = names.get(("thread_name", process, thread), thread)
    return found
