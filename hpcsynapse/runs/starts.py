"""The starts of a run as its job scripts record them in starts.jsonl: when each began, where, and how it ended."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from hpcsynapse.files import append_json, read_json_lines
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec

_STEP = re.compile(r"step-(\d{9,})\.pt")
NONE = -1  # how far checkpoints reach where there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord:
    """One start of a run: `attempt` names it, `job` the job; `end` is empty while it is not known how it ended."""

    attempt: str
    job: str
    mark: int
    hosts: tuple[str, ...]
    end: dict[str, Any]

    @property
    def reason(self) -> str:
        """Why what followed did."""
        return str(self.end.get("reason") or "")


def read_starts(run: RunDirectory) -> list[StartRecord]:
    """Return the starts of a run since a person last queued it, oldest first; damaged lines are left out."""
    found: dict[str, StartRecord] = {}
    for line in read_json_lines(run.starts):
        if line.get("event") == "resumed":
            found.clear()
        attempt = line.get("attempt")
        if not isinstance(attempt, str):
            continue
        if line.get("event") == "begin" and isinstance(line.get("mark"), int):
            hosts = line.get("hosts")
            names = tuple(str(host) for host in hosts) if isinstance(hosts, list) else ()
            found[attempt] = StartRecord(
                attempt=attempt, job=str(line.get("job")), mark=line["mark"], hosts=names, end={}
            )
        elif line.get("event") == "end":  # whose beginning may not have been recorded, on a full disk
            job, mark = attempt.partition("+")[0], line.get("mark", NONE)
            unknown = StartRecord(attempt=attempt, job=job, mark=mark, hosts=(), end={})
            found.setdefault(attempt, unknown).end.update(line)
    return list(found.values())


def note_begin(run: RunDirectory, attempt: str, job: str, mark: int, hosts: tuple[str, ...]) -> None:
    """Record that a start begins on these hosts; raises OSError."""
    record = {"event": "begin", "attempt": attempt, "job": job, "mark": mark, "hosts": list(hosts)}
    append_json(run.starts, {**record, "time": time.time()})


def note_resumed(run: RunDirectory) -> None:
    """Record that a person queues the run again: what was tried before no longer counts."""
    if run.starts.exists():
        append_json(run.starts, {"event": "resumed", "time": time.time()})


def note_end(run: RunDirectory, attempt: str, **told: object) -> None:
    """Record how a start ended and what follows; raises OSError."""
    append_json(run.starts, {"event": "end", "attempt": attempt, "time": time.time(), **told})


def why_not_again(run: RunDirectory) -> str:
    """Return why a run that could have come back did not, as its last start was judged; empty where it was not."""
    last = read_starts(run)[-1:]
    return last[0].reason if last and last[0].end.get("action") == "end" else ""


def checkpoint_mark(run: RunDirectory, spec: JobSpec) -> int:
    """Return a number that grows with every newer checkpoint, -1 without any.

    For the built-in trainer it is the newest checkpoint's step; of programs of the user's own, and of parameter
    servers, the time of the newest file in the folder of checkpoints (ns). Raises OSError for one that cannot be read.
    """
    try:
        entries = [entry for entry in run.checkpoints.iterdir() if not entry.name.startswith(".")]
    except FileNotFoundError:
        return NONE
    if spec.command or spec.served:
        return max((entry.stat().st_mtime_ns for entry in entries), default=NONE)
    return max((int(match[1]) for entry in entries if (match := _STEP.fullmatch(entry.name))), default=NONE)
