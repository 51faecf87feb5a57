"""One run: all that `status` tells of it, its history, its description, its checkpoints, and its ranks' places."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.files import read_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.listing import Row
from hpcsynapse.submission.status import as_text

MAX_RANKS = 4096  # of which the places are told
_MAX_HISTORY = 500
_MAX_FILE = 1 << 20  # bytes of a description or job file that are shown
_CHECKPOINT = re.compile(r"step-(\d{9,18})\.pt|server-\d{5,7}\.pt")


@dataclass(frozen=True, slots=True)
class StateChange:
    """A state that a run went into, when (Unix time), and why."""

    time: float | None
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The rank that failed first: where, when (Unix time), of what, and the last lines of its log."""

    rank: int
    host: str
    time: float | None
    reason: str
    log: list[str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that can be downloaded: its step (of a parameter server: none), bytes, and when it was written."""

    file: str
    step: int | None
    size: int
    time: float


@dataclass(frozen=True, slots=True)
class RunDetail:
    """One run: its row in the list, and what `status` and its files tell besides."""

    row: Row
    path: str
    nodes: str
    exit_code: int | None
    remark: str
    unrecorded: str
    learning_rate: float | None
    history: list[StateChange]
    failure: Failure | None
    checkpoints: list[Checkpoint]
    stop_requested: bool


@dataclass(frozen=True, slots=True)
class RunText:
    """A run's description and its job file, as they were submitted."""

    description: str
    job_file: str


@dataclass(frozen=True, slots=True)
class RankPlace:
    """Where a rank really ran: host, processors, NUMA nodes, and device as the queue named it."""

    rank: int
    node_rank: int | None
    local_rank: int | None
    host: str
    pid: int | None
    cpus: list[int]
    numa_nodes: list[int]
    device: str
    device_name: str
    device_uuid: str


@dataclass(frozen=True, slots=True)
class Placement:
    """The places of all ranks, whether they were found to be what was asked for, and what was wrong."""

    verified: bool | None
    problem: str
    ranks: list[RankPlace]
    left_out: int


def detail(index: RunIndex, name: str) -> RunDetail:
    """Return one run."""
    run = index.find(name)
    row, status = index.row(name)
    told, failed = status.progress, status.failure
    changes = run.read_history()[-_MAX_HISTORY:]
    return RunDetail(
        row=row,
        path=str(run.path),
        nodes=status.nodes,
        exit_code=status.exit_code,
        remark=as_text(str(told.get("remark") or "")),
        unrecorded=as_text(str(told.get("unrecorded") or "")),
        learning_rate=_number(told.get("lr")),
        history=[
            StateChange(_number(one.get("time")), as_text(str(one["state"])), as_text(str(one.get("reason", ""))))
            for one in changes
        ],
        failure=_failure(failed) if failed else None,
        checkpoints=checkpoints(run),
        stop_requested=run.stop.exists(),
    )


def _failure(failed: dict[str, Any]) -> Failure:
    lines = [as_text(str(line)) for line in failed.get("log", [])]
    return Failure(
        failed["rank"], as_text(failed["host"]), _number(failed.get("time")), as_text(failed["reason"]), lines
    )


def checkpoints(run: RunDirectory) -> list[Checkpoint]:
    """Return the checkpoints of a run, the newest first; links and files of other names are none."""
    found = []
    with suppress(OSError), os.scandir(run.checkpoints) as files:
        for file in files:
            known = _CHECKPOINT.fullmatch(file.name)
            with suppress(OSError):
                about = file.stat(follow_symlinks=False)
                if known and stat.S_ISREG(about.st_mode):
                    step = int(known[1]) if known[1] else None
                    found.append(Checkpoint(file.name, step, about.st_size, about.st_mtime))
    return sorted(found, key=lambda one: (-(one.step or 0), one.file))


def text(index: RunIndex, name: str) -> RunText:
    """Return the description and the job file of a run."""
    run = index.find(name)
    script = str(run.read_submission().get("script") or "").rpartition("/")[2]
    found = []
    for file in ("run.toml", script):
        with suppress(OSError, SpecError):
            found.append(read_inside(run, "", file, 0, _MAX_FILE)[0].decode("utf-8", "replace"))
            continue
        found.append("")
    return RunText(*found)


def read_inside(run: RunDirectory, folder: str, file: str, begin: int, length: int) -> tuple[bytes, int]:
    """Return bytes of a file of a run, or of one of its folders, and the file's size.

    Neither the folder nor the file may be a link, as what it leads to is not the run's; looked at when they are open,
    so that nothing can be put in their place meanwhile. Raises OSError.
    """
    descriptor = open_inside(run, folder, file)
    try:
        return os.pread(descriptor, length, begin), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def open_inside(run: RunDirectory, folder: str, file: str) -> int:
    """Return the open regular file of that name in a run's folder; raises OSError for what is anything else."""
    if "/" in f"{folder}{file}" or "\0" in file or file in ("", ".", ".."):
        raise FileNotFoundError(file)
    place = os.open(run.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if folder:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = inner
        found = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)
    if not stat.S_ISREG(os.fstat(found).st_mode):  # a pipe, a device
        os.close(found)
        raise FileNotFoundError(file)
    return found


def placement(index: RunIndex, name: str) -> Placement:
    """Return where the ranks of a run are, by their own evidence; empty before the first step."""
    told = read_json(index.find(name).placement) or {}
    ranks = told.get("ranks")
    usable = [one for one in ranks if isinstance(one, dict)] if isinstance(ranks, list) else []
    verified = told.get("verified")
    return Placement(
        verified=verified if isinstance(verified, bool) else None,
        problem=as_text(str(told.get("problem") or "")),
        ranks=[_place(number, one) for number, one in enumerate(usable[:MAX_RANKS])],
        left_out=max(0, len(usable) - MAX_RANKS),
    )


def _place(number: int, one: dict[str, Any]) -> RankPlace:
    rank, device = _whole(one.get("rank")), one.get("device")
    return RankPlace(
        rank=number if rank is None else rank,
        node_rank=_whole(one.get("node_rank")),
        local_rank=_whole(one.get("local_rank")),
        host=_text(one.get("host")),
        pid=_whole(one.get("pid")),
        cpus=_numbers(one.get("cpus")),
        numa_nodes=_numbers(one.get("numa_nodes")),
        device="" if device is None else _text(device),
        device_name=_text(one.get("device_name")),
        device_uuid=_text(one.get("device_uuid")),
    )


def _text(value: object) -> str:
    return "" if value is None else as_text(str(value))[:200]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _numbers(value: object) -> list[int]:
    return [one for one in value[:1024] if isinstance(one, int)] if isinstance(value, list) else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
