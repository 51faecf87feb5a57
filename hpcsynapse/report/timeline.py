"""All ranks, servers and nodes of a run as one trace, for ui.perfetto.dev or chrome://tracing.

A node is a process of the trace, a rank or server a thread of it. Written rank by rank: memory grows with the steps of
one rank.
"""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.report.trace.chrome import ChromeWriter
from hpcsynapse.report.trace.events import TraceWriter
from hpcsynapse.report.trace.perfetto import PerfettoWriter
from hpcsynapse.report.trace.steps import slices_of, thread_of, usable
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.runs.records import Part, parts
from hpcsynapse.timing import PHASES

# Phases beyond which only slow steps have theirs: what viewers hold of each format.
MOST_PHASES, MOST_PHASES_OF_PERFETTO = 1_000_000, 6_000_000
ENDINGS = (".pftrace", ".pftrace.gz", ".json", ".json.gz")


def write_timeline(source: RunDirectory | Path, target: Path) -> int:
    """Write the trace of a run, or of a folder of step records, and return how many events it has.

    The file is gzipped where its name ends in .gz, and appears only when it is whole. Raises SpecError for a name
    that ends otherwise than in ENDINGS, RecordError when there are no records.
    """
    if not target.name.endswith(ENDINGS):
        raise SpecError(f"{target}: the name of a timeline ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    folder = source.timings if isinstance(source, RunDirectory) else source
    found = [part for part in parts(folder, role=None) if part.count]
    span = _span(found)
    if math.isnan(span[0]):
        raise RecordError(f"no step records in {folder}")
    with _writer(target, *span) as writer:
        _write(writer, source, found, span[0])
    return writer.count


def _span(found: Sequence[Part]) -> tuple[float, float]:
    """Return the earliest start and the latest end of all records, Unix time."""
    first, last = math.inf, -math.inf
    for part in found:
        if len(records := usable(part)):
            first = min(first, float(records["start"].min()))
            last = max(last, float((records["start"] + records["total"]).max()))
    return (first, last) if first < math.inf else (math.nan, math.nan)


@contextmanager
def _writer(target: Path, origin: float, latest: float) -> Iterator[TraceWriter]:
    """Yield what writes the trace; the file gets its name when all went well."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    packed = target.name.endswith(".gz")
    try:
        writer: TraceWriter
        if ".json" in target.name:
            with gzip.open(temporary, "wt", 1) if packed else temporary.open("w") as text:
                writer = ChromeWriter(text, {"origin": origin, "clock": "every node's own, not corrected"})
                yield writer
                writer.finish()
        else:
            with gzip.open(temporary, "wb", 1) if packed else temporary.open("wb") as file:
                writer = PerfettoWriter(file, origin, round((latest - origin) * 1e9))
                yield writer
                writer.finish()
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _write(writer: TraceWriter, source: RunDirectory | Path, found: Sequence[Part], origin: float) -> None:
    most = MOST_PHASES if isinstance(writer, ChromeWriter) else MOST_PHASES_OF_PERFETTO
    everywhere = sum(part.count for part in found) * len(PHASES) <= most
    nodes, threads = set[int](), {}
    for part in found:
        thread = thread_of(part)
        if thread.process not in nodes:
            nodes.add(thread.process)
            writer.process(thread.process, f"node {thread.process} {part.header.get('host', '')}".strip())
        if thread not in threads:
            threads[thread] = part.header["rank"]
            writer.thread(thread)
        if len(records := usable(part)):
            writer.slices(thread, slices_of(records, records["start"] - origin, everywhere))
    failure = first_failure(source) if isinstance(source, RunDirectory) else {}
    if failure:
        where = next((thread for thread, rank in threads.items() if rank == failure["rank"]), next(iter(threads)))
        name = f"first failure: rank {failure['rank']}, {failure['reason']}"
        writer.instant(where, name, round(max(0.0, failure["time"] - origin) * 1e9), everywhere=True)
