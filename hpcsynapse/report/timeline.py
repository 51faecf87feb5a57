"""All ranks, servers and nodes of a run as one trace, for ui.perfetto.dev or chrome://tracing.

A node is a process of the trace, a rank or server a thread of it; the run as a whole is a process too. Written rank by
rank: memory grows with the steps of one rank.
"""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.report.sums import Records
from hpcsynapse.report.trace.chrome import ChromeWriter
from hpcsynapse.report.trace.counters import write_counters
from hpcsynapse.report.trace.events import Thread, TraceWriter
from hpcsynapse.report.trace.merged import FIRST_PROCESS, read_trace, write_trace
from hpcsynapse.report.trace.perfetto import PerfettoWriter
from hpcsynapse.report.trace.steps import slices_of, thread_of, usable
from hpcsynapse.report.trace.whole_run import begin_of_job, failure_of, write_run
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import Part, parts
from hpcsynapse.timing import PHASES

# Phases beyond which only slow steps have theirs: what viewers hold of each format.
MOST_PHASES, MOST_PHASES_OF_PERFETTO = 1_000_000, 6_000_000
ENDINGS = (".pftrace", ".pftrace.gz", ".json", ".json.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What of a run is drawn: the steps from the first to the last of a pair, these ranks; None stands for all.

    `merged` are traces of other programs (Horovod's timeline, torch.profiler's).
    """

    steps: tuple[int, int] | None = None
    ranks: frozenset[int] | None = None
    merged: Sequence[Path] = ()

    def of(self, part: Part) -> Records:
        """Return the records of a part that are drawn."""
        records = usable(part)
        if self.steps is None:
            return records
        return records[(records["step"] >= self.steps[0]) & (records["step"] <= self.steps[1])]


def write_timeline(
    source: RunDirectory | Path,
    target: Path,
    view: View | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> int:
    """Write the trace of a run, or of a folder of step records, and return how many events it has.

    The file is gzipped where its name ends in .gz, and appears only when it is whole; `progress` is told how many
    ranks of how many are written. Raises SpecError for a name that ends otherwise than in ENDINGS and for merged files
    that are no traces, RecordError when there are no records.
    """
    if not target.name.endswith(ENDINGS):
        raise SpecError(f"{target}: the name of a timeline ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    view = view or View()
    folder = source.timings if isinstance(source, RunDirectory) else source
    found = [one for one in parts(folder, role=None) if one.count and _is_wanted(one, view)]
    first, last = _span(found, view)
    if math.isnan(first):
        raise RecordError(f"no step records in {folder}{' of these steps and ranks' if view != View() else ''}")
    if isinstance(source, RunDirectory) and view.steps is None:
        first = begin_of_job(source, first, lambda when: when)
    with _writer(target, first, last) as writer:
        _Timeline(writer, source, view, first, last).write(found, progress)
    return writer.count


def _is_wanted(part: Part, view: View) -> bool:
    return view.ranks is None or part.header.get("role", "worker") != "worker" or part.header["rank"] in view.ranks


def _span(found: Sequence[Part], view: View) -> tuple[float, float]:
    """Return the earliest start and the latest end of all records, Unix time."""
    first, last = math.inf, -math.inf
    for part in found:
        if len(records := view.of(part)):
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


class _Timeline:
    """Writes all that is known of a run from `first` to `last`, Unix times."""

    def __init__(self, writer: TraceWriter, source: RunDirectory | Path, view: View, first: float, last: float) -> None:
        self._writer, self._source, self._view, self._first, self._last = writer, source, view, first, last
        self._nodes, self._threads = set[int](), dict[Thread, int]()

    def write(self, found: Sequence[Part], progress: Callable[[int, int], None]) -> None:
        """Write the steps of these parts, and what is around them."""
        most = MOST_PHASES if isinstance(self._writer, ChromeWriter) else MOST_PHASES_OF_PERFETTO
        count = sum(one.count if self._view.steps is None else len(self._view.of(one)) for one in found)
        everywhere = count * len(PHASES) <= most
        for number, part in enumerate(found, 1):
            self._write_part(part, everywhere)
            progress(number, len(found))
        if isinstance(self._source, RunDirectory):
            write_run(self._writer, self._source, self._first, self._last, lambda when: when)
            write_counters(
                self._writer, self._source.telemetry, self._first, self._last, lambda _, times: times, self._nodes
            )
            self._mark_failure(self._source)
        for number, path in enumerate(self._view.merged):
            title, rank, lanes = read_trace(path, self._first)
            title = title if rank is None else f"{title}, rank {rank}"
            write_trace(self._writer, FIRST_PROCESS + number, title, lanes, round((self._last - self._first) * 1e9))

    def _write_part(self, part: Part, everywhere: bool) -> None:
        thread = thread_of(part)
        if thread.process not in self._nodes:
            self._nodes.add(thread.process)
            self._writer.process(thread.process, f"node {thread.process} {part.header.get('host', '')}".strip())
        if thread not in self._threads:
            self._threads[thread] = part.header["rank"]
            self._writer.thread(thread)
        if len(records := self._view.of(part)):
            self._writer.slices(thread, slices_of(records, records["start"] - self._first, everywhere))

    def _mark_failure(self, run: RunDirectory) -> None:
        """Mark what failed first, across all threads."""
        if not (failure := failure_of(run)):
            return
        rank, when, _, text = failure
        where = next((thread for thread, of in self._threads.items() if of == rank), next(iter(self._threads)))
        self._writer.instant(where, text, round(max(0.0, when - self._first) * 1e9), everywhere=True)
