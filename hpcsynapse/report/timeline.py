"""The steps of all ranks and servers of a run as a trace in Chrome's JSON format, which ui.perfetto.dev opens too.

A node is a process of the trace, a rank or server a thread of it. Times are those of the node's own clock, in
microseconds since the earliest record. Written rank by rank: memory grows with the steps of one rank.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.files import draft_of
from hpcsynapse.report.loading import DTYPE
from hpcsynapse.report.sums import Records
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.runs.records import Part, parts
from hpcsynapse.timing import PAUSE, PHASES, cause_of

MOST_PHASES = 1_000_000  # beyond, only slow steps have their phases
SLOW = 1.5  # times the rank's median
ENDINGS = (".json", ".json.gz")
_LATEST = 4e9  # Unix time; and the longest step: nanoseconds up to twice that fit 64 bits
_SERVERS = 1_000_000  # thread numbers of servers begin here
Nanoseconds = npt.NDArray[np.int64]


def write_timeline(source: RunDirectory | Path, target: Path) -> int:
    """Write the trace of a run, or of a folder of step records, and return how many events it has.

    The file is gzipped where its name ends in .gz, and appears only when it is whole. Raises SpecError for a name
    that ends otherwise than in ENDINGS, RecordError when there are no records.
    """
    if not target.name.endswith(ENDINGS):
        raise SpecError(f"{target}: the name of a timeline ends in {' or '.join(ENDINGS)}")
    folder = source.timings if isinstance(source, RunDirectory) else source
    found = [part for part in parts(folder, role=None) if part.count]
    origin = min((float(times["start"].min()) for part in found if len(times := _usable(part))), default=math.nan)
    if math.isnan(origin):
        raise RecordError(f"no step records in {folder}")
    temporary = draft_of(target)
    try:
        with gzip.open(temporary, "wt", 1) if target.name.endswith(".gz") else temporary.open("w") as file:
            count = _write(file, _events(source, found, origin), origin)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _write(file: IO[Any], events: Iterator[str], origin: float) -> int:
    about = json.dumps({"origin": origin, "clock": "every node's own, not corrected"})
    file.write(f'{{"displayTimeUnit":"ms","otherData":{about},"traceEvents":[\n')
    count = 0
    for count, event in enumerate(events, 1):
        file.write(event if count == 1 else f",\n{event}")
    file.write("\n]}\n")
    return count


def _events(source: RunDirectory | Path, found: Sequence[Part], origin: float) -> Iterator[str]:
    everywhere = sum(part.count for part in found) * len(PHASES) <= MOST_PHASES
    named: set[tuple[str, int, int]] = set()
    for part in found:
        yield from _names(part, named)
        yield from _of_part(part, origin, everywhere)
    failure = first_failure(source) if isinstance(source, RunDirectory) else {}
    if failure:
        where = next((_place(part) for part in found if _place(part)[1] == failure["rank"]), (0, failure["rank"]))
        name = json.dumps(f"first failure: rank {failure['rank']}, {failure['reason']}")
        yield (
            f'{{"ph":"i","s":"g","name":{name},"ts":{max(0.0, failure["time"] - origin) * 1e6:.3f},'
            f'"pid":{where[0]},"tid":{where[1]}}}'
        )


def _place(part: Part) -> tuple[int, int]:
    """Return the numbers of the process (node) and of the thread (rank or server) that a part belongs to."""
    rank: int = part.header["rank"]
    worker = part.header.get("role", "worker") == "worker"
    return part.header.get("node_rank", 0), rank if worker else _SERVERS + rank


def _names(part: Part, named: set[tuple[str, int, int]]) -> Iterator[str]:
    node, thread = _place(part)
    role = part.header.get("role", "worker")
    texts = {
        ("process_name", node, 0): f"node {node} {part.header.get('host', '')}".strip(),
        ("thread_name", node, thread): f"{'rank' if role == 'worker' else role} {part.header['rank']}",
    }
    for key, text in texts.items():
        if key not in named:
            named.add(key)
            yield json.dumps({"ph": "M", "name": key[0], "pid": node, "tid": key[2], "args": {"name": text}})


def _usable(part: Part) -> Records:
    """Return the records of a part, by time, without those whose times are no times."""
    raw = part.read()
    records = np.frombuffer(raw, DTYPE, len(raw) // DTYPE.itemsize)
    start, total = records["start"], records["total"]
    records = records[(start > 0) & (start < _LATEST) & (total >= 0) & (total < _LATEST)]
    return records[np.argsort(records["start"], kind="stable")]


def _of_part(part: Part, origin: float, everywhere: bool) -> Iterator[str]:
    records = _usable(part)
    if not len(records):
        return
    begin = _nanoseconds(records["start"] - origin)
    end = begin + _nanoseconds(records["total"])
    end[:-1] = np.minimum(end[:-1], begin[1:])  # slices of a thread must not overlap; clocks are set back at times
    steps = records["flags"] & PAUSE == 0
    slow = records["total"] > SLOW * float(np.median(records["total"][steps])) if steps.any() else ~steps
    node, thread = _place(part)
    where = f'"pid":{node},"tid":{thread}'
    bounds = _bounds(records, begin, end)
    for index, record in enumerate(records):
        if not steps[index]:
            yield _slice(cause_of(int(record["flags"])), begin[index], end[index], where)
            continue
        loss = float(record["loss"])
        told = f'"epoch":{record["epoch"]},"samples":{record["samples"]}'
        told += f',"loss":{loss:.6g}' if math.isfinite(loss) else ""
        yield _slice(f"step {record['step']}", begin[index], end[index], f'{where},"args":{{{told}}}')
        if everywhere or slow[index]:
            for phase, first, last in zip(PHASES, bounds[index], bounds[index, 1:], strict=False):
                if last > first:
                    yield _slice(phase, first, last, where)


def _bounds(records: Records, begin: Nanoseconds, end: Nanoseconds) -> Nanoseconds:
    """Return where the phases begin and end, within their step, shape (records, phases + 1)."""
    lengths = np.stack([np.clip(np.nan_to_num(records[phase]), 0, _LATEST / 8) for phase in PHASES], axis=1)
    behind = begin[:, None] + np.cumsum(_nanoseconds(lengths), axis=1)
    return np.concatenate([begin[:, None], np.minimum(behind, end[:, None])], axis=1)


def _nanoseconds(seconds: npt.NDArray[Any]) -> Nanoseconds:
    return np.rint(seconds.astype(np.float64) * 1e9).astype(np.int64)


def _slice(name: str, begin: int, end: int, rest: str) -> str:
    return f'{{"ph":"X","name":"{name}","ts":{_micro(begin)},"dur":{_micro(end - begin)},{rest}}}'


def _micro(nanoseconds: int) -> str:
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03d}"
