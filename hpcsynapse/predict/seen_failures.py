"""What runs have seen of failures, saves and restarts."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from hpcsynapse.report.lost_work import lost_work
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.reliability import failure_rate


def seen_of(runs: Iterable[RunDirectory]) -> dict[str, float]:
    """Return the failures per 1,000 node-days of runs, and the medians of their saves and restarts (s) where known.

    Ends that somebody or the queue asked for are no failures. Raises RecordError for a run without step records.
    """
    found = lost_work(runs)
    failures = sum(one.host != "" or one.cause.startswith("unknown") for work in found for one in work.interruptions)
    seen = {"rate": failure_rate(failures, sum(work.hours.allocated for work in found) / 24)}
    saves = [seconds for work in found for seconds in work.save_s]
    restarts = [seconds for work in found for seconds in work.restart_s]
    for name, values in (("save", saves), ("restart", restarts)):
        if values:
            seen[name] = median(values)
    return seen
