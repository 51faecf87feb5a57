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
from hpcsynapse.report.clocks import Clocks, clocks_of
from hpcsynapse.report.sums import Floats, Records
from hpcsynapse.report.trace.chrome import ChromeWriter
from hpcsynapse.report.trace.counters import write_counters
from hpcsynapse.report.trace.events import Thread, TraceWriter
from hpcsynapse.report.trace.merged import FIRST_PROCESS, rank_of, read_trace, write_trace
from hpcsynapse.report.trace.perfetto import PerfettoWriter
from hpcsynapse.report.trace.steps import slices_of, thread_of, usable
from hpcsynapse.report.trace.whole_run import begin_of_job, failure_of, write_run
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import Part, parts
from hpcsynapse.runs.telemetry import Telemetry
from hpcsynapse.timing import PHASES

# What viewers hold of each format: with more phases only slow steps have theirs, with more steps several become one.
MOST_PHASES, MOST_PHASES_OF_PERFETTO = 1_000_000, 6_000_000
ENDINGS = (".pftrace", ".pftrace.gz", ".json", ".json.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What of a run is drawn: the steps from the first to the last of a pair, these ranks; None stands for all.

    `merged` are traces of other programs (Horovod's timeline, torch.profiler's); with `profiles` those of the run's own
    ranks, as far as these are drawn, are merged too.
    """

    steps: tuple[int, int] | None = None
    ranks: frozenset[int] | None = None
    merged: Sequence[Path] = ()
    profiles: bool = False

    def traces(self, source: RunDirectory | Path) -> list[Path]:
        """Return the traces of other programs that are drawn; raises SpecError where a run has no profiles."""
        if not self.profiles:
            return list(self.merged)
        found = sorted(source.profiles.glob("rank-*.json.gz")) if isinstance(source, RunDirectory) else []
        if not found:
            raise SpecError("there are no profiles: were steps traced (--profile-steps), and did the run come to them?")
        return [*(path for path in found if self.ranks is None or rank_of(path) in self.ranks), *self.merged]

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
    tell: Callable[[str], None] = lambda text: None,
) -> int:
    """Write the trace of a run, or of a folder of step records, and return how many events it has.

    The file is gzipped where its name ends in .gz, and appears only when it is whole. `progress` is told how many ranks
    of how many are written, and `tell` how the clocks of several hosts were brought together. Raises SpecError for a
    name that ends otherwise than in ENDINGS and for merged files that are no traces, RecordError when there are no
    records.
    """
    if not target.name.endswith(ENDINGS):
        raise SpecError(f"{target}: the name of a timeline ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    view = view or View()
    folder = source.timings if isinstance(source, RunDirectory) else source
    found = [one for one in parts(folder, role=None) if one.count and _is_wanted(one, view)]
    clocks = clocks_of(folder, found)
    first, last = _span(found, view, clocks)
    if math.isnan(first):
        raise RecordError(f"no step records in {folder}{' of these steps and ranks' if view != View() else ''}")
    timeline = _Timeline(source, view, clocks, found, last)
    if isinstance(source, RunDirectory) and view.steps is None:
        first = begin_of_job(source, first, timeline.of_first_rank)
    with _writer(target, first, last, clocks.told(headers := [one.header for one in found], first, last)) as writer:
        timeline.write(writer, first, progress)
    if clocks.way != "one":
        tell(clocks.told(headers, first, last))
    return writer.count


def _is_wanted(part: Part, view: View) -> bool:
    return view.ranks is None or part.header.get("role", "worker") != "worker" or part.header["rank"] in view.ranks


def _span(found: Sequence[Part], view: View, clocks: Clocks) -> tuple[float, float]:
    """Return the earliest start and the latest end of all records, Unix time."""
    first, last = math.inf, -math.inf
    for part in found:
        if len(records := view.of(part)):
            start = clocks.corrected(part.header, records["start"])
            first = min(first, float(start.min()))
            last = max(last, float((start + records["total"]).max()))
    return (first, last) if first < math.inf else (math.nan, math.nan)


@contextmanager
def _writer(target: Path, origin: float, latest: float, clock: str) -> Iterator[TraceWriter]:
    """Yield what writes the trace; the file gets its name when all went well."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    packed = target.name.endswith(".gz")
    try:
        writer: TraceWriter
        if ".json" in target.name:
            with gzip.open(temporary, "wt", 1) if packed else temporary.open("w") as text:
                writer = ChromeWriter(text, {"origin": origin, "clock": clock})
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
    """All that is known of a run until `last` (Unix time, as all times of it by the clock of the trace)."""

    def __init__(
        self, source: RunDirectory | Path, view: View, clocks: Clocks, found: Sequence[Part], last: float
    ) -> None:
        self._source, self._view, self._clocks, self._found, self._last = source, view, clocks, found, last
        self._nodes, self._threads = set[int](), dict[Thread, int]()
        self._everywhere, self._together = True, 1  # which phases are drawn, and how many steps are one slice
        newest = max(found, key=lambda one: one.header.get("started", 0.0)).header
        self._attempt = str(newest.get("attempt", "0"))
        firsts = (one.header for one in found if str(one.header.get("attempt", "0")) == self._attempt)
        self._first_host = str(min(firsts, key=lambda one: one["rank"]).get("host", ""))

    def of_first_rank(self, when: float) -> float:
        """Return a time that rank 0's host wrote, by the clock of the trace."""
        return self._clocks.corrected_time(self._attempt, self._first_host, when)

    def write(self, writer: TraceWriter, first: float, progress: Callable[[int, int], None]) -> None:
        """Write the steps, and what is around them, from `first` on."""
        most = MOST_PHASES if isinstance(writer, ChromeWriter) else MOST_PHASES_OF_PERFETTO
        count = sum(one.count if self._view.steps is None else len(self._view.of(one)) for one in self._found)
        self._everywhere = count * len(PHASES) <= most
        self._together = 1 if count <= most else -(-count * (len(PHASES) + 1) // most)
        for number, part in enumerate(self._found, 1):
            self._write_part(writer, part, first)
            progress(number, len(self._found))
        if isinstance(self._source, RunDirectory):
            write_run(writer, self._source, first, self._last, self.of_first_rank)
            self._write_counters(writer, self._source, first)
            self._mark_failure(writer, self._source, first)
        for number, path in enumerate(self._view.traces(self._source)):
            self._merge(writer, path, FIRST_PROCESS + number, first)

    def _write_part(self, writer: TraceWriter, part: Part, first: float) -> None:
        thread, records = thread_of(part), self._view.of(part)
        start = self._clocks.corrected(part.header, records["start"])
        if thread.process not in self._nodes:
            self._nodes.add(thread.process)
            node = f"node {thread.process} {part.header.get('host', '')}".strip()
            writer.process(thread.process, node + self._clocks.remark(part.header, first, self._last))
        if thread not in self._threads:
            self._threads[thread] = part.header["rank"]
            writer.thread(thread)
        if len(records):
            writer.slices(thread, slices_of(records, start - first, self._everywhere, self._together))

    def _write_counters(self, writer: TraceWriter, run: RunDirectory, first: float) -> None:
        def correct(one: Telemetry, times: Floats) -> Floats:
            return self._clocks.corrected(one.header, times)

        write_counters(writer, run.telemetry, first, self._last, correct, self._nodes)

    def _mark_failure(self, writer: TraceWriter, run: RunDirectory, first: float) -> None:
        """Mark what failed first, across all threads."""
        if not (failure := failure_of(run)):
            return
        rank, when, host, text = failure
        where = next((thread for thread, of in self._threads.items() if of == rank), next(iter(self._threads)))
        corrected = self._clocks.corrected_time(self._attempt, host, when)
        writer.instant(where, text, round(max(0.0, corrected - first) * 1e9), everywhere=True)

    def _merge(self, writer: TraceWriter, path: Path, process: int, first: float) -> None:
        """Write a trace of another program, whose times are those of its rank's host (rank 0's where it tells none)."""
        rank = (told := read_trace(path, first))[1]
        header = next((one.header for one in self._found if one.header["rank"] == rank), None)
        host = self._first_host if header is None else str(header.get("host", ""))
        attempt = self._attempt if header is None else str(header.get("attempt", "0"))
        ahead = first - self._clocks.corrected_time(attempt, host, first)
        title, _, lanes = read_trace(path, first + ahead) if ahead else told
        write_trace(writer, process, title, lanes, round((self._last - first) * 1e9))
