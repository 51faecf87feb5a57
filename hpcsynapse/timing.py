"""Step records: one file per rank, a first line of JSON that describes it, then fixed-size binary records.

Format version 3 (2026-11): see FIELDS; version 2 had no pauses and is still read, version 1 had no `sent` and
`received`. A reader drops what follows the last whole record, so a process killed at any instant loses at most the
records not yet written and never the file. `records` reads and joins the files. This file stands alone: programs in
other environments load it by its path (`recording.start`).

A pause is a record of its own, with PAUSE and its cause (`pause_flags`) in `flags`: `start` and `total` tell when it
was and how long it took, `step` which step comes next; all else is 0. It stands before the record of the first step
that ends after it. What passes between two steps and is no pause belongs to the training.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

FORMAT = "hpcsynapse-steps"
VERSION = 3
READABLE = (2, VERSION)  # both have records of the same size and fields
# name, numpy type, struct code. Durations are seconds; start is Unix time; staleness is -1 where it has no meaning;
# sent and received are bytes since the record before that is not 0 (trainer/traffic.py).
FIELDS = (
    ("step", "<u4", "I"),
    ("epoch", "<u4", "I"),
    ("start", "<f8", "d"),
    ("data", "<f4", "f"),
    ("forward", "<f4", "f"),
    ("backward", "<f4", "f"),
    ("communicate", "<f4", "f"),
    ("update", "<f4", "f"),
    ("total", "<f4", "f"),
    ("samples", "<u4", "I"),
    ("loss", "<f4", "f"),
    ("staleness", "<i4", "i"),
    ("flags", "<u4", "I"),
    ("sent", "<u8", "Q"),
    ("received", "<u8", "Q"),
)
PHASES = ("data", "forward", "backward", "communicate", "update")
CAUSES = ("validation", "checkpoint", "restart", "other")  # of a pause that a program makes on purpose
WARMUP = 1  # bit of `flags`: one of the first steps after a start
PAUSE = 2  # bit of `flags`: no step, but a pause between two steps
_CAUSE_SHIFT = 8
RECORD = struct.Struct("<" + "".join(code for _, _, code in FIELDS))
MERGED_NAME = "merged.steps"
_FLUSH_SECONDS = 1.0
_BUFFER_RECORDS = 512
_Batch = TypeVar("_Batch")


def pause_flags(cause: str) -> int:
    """Return `flags` of the record of a pause; raises ValueError for a cause that is not one of CAUSES."""
    if cause not in CAUSES:
        raise ValueError(f"pause {cause!r}: give one of {', '.join(CAUSES)}")
    return PAUSE | CAUSES.index(cause) << _CAUSE_SHIFT


def cause_of(flags: int) -> str:
    """Return the cause of a pause from the `flags` of its record; empty for the record of a step."""
    number = flags >> _CAUSE_SHIFT
    return "" if not flags & PAUSE else CAUSES[number] if number < len(CAUSES) else "other"


class StepRecorder:
    """Records the steps of one rank of any training program.

    `for batch in recorder.batches(loader):` and in it `with recorder.step(samples=64, loss=value):` around a step are
    enough: the wait for the batch is then the step's data phase. `recorder.mark("forward")` inside a step gives the
    time since the last mark to a phase. `with recorder.pause("validation"):` between steps tells that what passes is
    no training. `description` is added to the first line of the file. Without
    arguments run directory, rank and world size come from the environment that hpcsynapse gives to every rank.
    A parameter server records its updates with `role="ps"`, in a file of that name, and its index as the rank. With
    `keep` a process that is started again within a job leaves the records of its earlier life as they are.
    A recorder belongs to one thread. Cost: see benchmarks/recorder.py.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        rank: int | None = None,
        warmup: int = 10,
        role: str = "worker",
        keep: bool = False,
        **description: object,
    ) -> None:
        environ = os.environ
        run = environ.get("HPCSYNAPSE_RUN_DIR")
        self.rank = int(environ.get("RANK", "0")) if rank is None else rank
        target = Path(folder) if folder is not None else Path(run or ".") / "timings"
        target.mkdir(parents=True, exist_ok=True)
        name = "rank" if role == "worker" else role
        self.path = target / f"{name}-{self.rank:05d}.{environ.get('HPCSYNAPSE_ATTEMPT', '0')}.steps"
        if keep:
            self.path = _unused(self.path)
        self.header = self._describe({"role": role, **description})
        self._warmup = warmup
        self._written = 0
        self._buffer = bytearray(RECORD.size * _BUFFER_RECORDS)
        self._full = len(self._buffer) - RECORD.size
        self._used = 0
        self._file = self._open()
        self._clock = time.perf_counter
        self._phases = dict.fromkeys(PHASES, 0.0)
        self._wall_offset = time.time() - time.perf_counter()
        self._begin = self._last = self._flushed = self._clock()
        self._waited = 0.0  # for the batch of the step that begins next
        self._count = self._next = 0

    def _describe(self, description: Mapping[str, object]) -> dict[str, object]:
        run = os.environ.get("HPCSYNAPSE_RUN_DIR")
        return {
            "format": FORMAT,
            "version": VERSION,
            "run": Path(run).name if run else "",
            "rank": self.rank,
            "world_size": int(os.environ.get("WORLD_SIZE", "1")),
            "node_rank": int(os.environ.get("NODE_RANK", "0")),
            "nodes": int(os.environ.get("HPCSYNAPSE_NODES", "1")),
            "host": socket.gethostname(),
            "device": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "python": ".".join(map(str, sys.version_info[:3])),
            "attempt": os.environ.get("HPCSYNAPSE_ATTEMPT", "0"),
            "started": time.time(),
            "clock": "start: time.time; durations: time.perf_counter",
            "communicate": "measured",
            **description,
            "record_size": RECORD.size,
            "fields": [[name, kind] for name, kind, _ in FIELDS],
        }

    def _open(self) -> int:
        # A start of the job has a name of its own (HPCSYNAPSE_ATTEMPT), so an existing file is a second recorder of
        # the same process or a rerun without hpcsynapse: it is replaced.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        os.write(descriptor, (json.dumps(self.header) + "\n").encode())
        return descriptor

    def batches(self, loader: Iterable[_Batch]) -> Iterator[_Batch]:
        """Yield the batches of a loader; what the next step waited for its batch becomes its data phase."""
        clock, iterator = self._clock, iter(loader)
        while True:
            asked = clock()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited = clock() - asked
            yield batch

    @contextmanager
    def pause(self, cause: str) -> Iterator[None]:
        """Mark what is done between two steps and is no training; the cause is one of CAUSES, else ValueError."""
        pause_flags(cause)  # an unknown cause is an error before the work, not after it
        begin = self._clock()
        try:
            yield
        finally:
            self._begin = self._last = now = self._clock()
            self.write_pause(cause, begin + self._wall_offset, now - begin)

    def begin(self) -> None:
        """Start the clock of a step; it counts from when its batch was asked for where `batches` gave that."""
        now = self._last = self._clock()
        if self._waited:
            self._phases["data"] += self._waited
            now -= self._waited
            self._waited = 0.0
        self._begin = now

    def mark(self, phase: str) -> None:
        """Give the time since the last mark (or the begin) to a phase: one of PHASES."""
        now = self._clock()
        self._phases[phase] += now - self._last
        self._last = now

    def end(
        self, *, samples: int, loss: float = float("nan"), epoch: int = 0, step: int | None = None, staleness: int = -1
    ) -> None:
        """Write the record of the step that ends now; steps count from 0 when not given."""
        now = self._clock()
        phases = self._phases
        number = self._count if step is None else step
        self.write(
            number,
            epoch,
            self._begin + self._wall_offset,
            phases["data"],
            phases["forward"],
            phases["backward"],
            phases["communicate"],
            phases["update"],
            now - self._begin,
            samples,
            loss,
            staleness,
        )
        self._count = number + 1
        phases["data"] = phases["forward"] = phases["backward"] = phases["communicate"] = phases["update"] = 0.0
        # The next step's data phase begins here unless begin() is called again.
        self._begin = self._last = now

    def write(
        self,
        step: int,
        epoch: int,
        start: float,
        data: float,
        forward: float,
        backward: float,
        communicate: float,
        update: float,
        total: float,
        samples: int,
        loss: float,
        staleness: int = -1,
        sent: int = 0,
        received: int = 0,
    ) -> None:
        """Write one record whose durations (seconds) were measured elsewhere, e.g. by CUDA events."""
        used = self._used
        if used > self._full:  # it could not be flushed before
            self.flush()
            used = self._used
        RECORD.pack_into(
            self._buffer, used, step, epoch, start, data, forward, backward, communicate, update, total, samples,
            loss, staleness, WARMUP if self._written < self._warmup else 0, sent, received,
        )  # fmt: skip  # a long call
        self._written += 1
        self._next = step + 1
        self._used = used = used + RECORD.size
        now = self._clock()
        if now - self._flushed >= _FLUSH_SECONDS or used > self._full:
            self._flushed = now
            self.flush()

    def write_pause(self, cause: str, start: float, seconds: float) -> None:
        """Write the record of a pause that was measured elsewhere: when it began (Unix time), and how long it took."""
        if self._used > self._full:
            self.flush()
        RECORD.pack_into(
            self._buffer, self._used, self._next & 0xFFFFFFFF, 0, start, 0, 0, 0, 0, 0, seconds, 0, float("nan"), -1,
            pause_flags(cause), 0, 0,
        )  # fmt: skip  # a long call
        self._used += RECORD.size
        self.flush()  # a pause is rare, and where runs are killed most often

    def flush(self) -> None:
        """Hand all records so far to the operating system, in whole records."""
        done = 0
        try:
            while done < self._used:  # a short write must not shift the records behind it
                done += os.write(self._file, memoryview(self._buffer)[done : self._used])
        finally:  # after an error (disk full) a later flush goes on where this one ended
            left = self._used - done
            self._buffer[:left] = self._buffer[done : self._used]
            self._used = left

    def step(self, *, samples: int, loss: float = float("nan"), epoch: int = 0) -> _Step:
        """Return a context manager around one step of `samples` samples on this rank."""
        return _Step(self, samples, loss, epoch)

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            self._file = -1

    def forget(self) -> None:
        """Leave the file to others: drop the records that are not written yet, as a forked child must."""
        self._used = 0
        self.close()

    def __enter__(self) -> StepRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.close()


def _unused(path: Path) -> Path:
    """Return the path, or one with the lowest number behind the name of the start that is not taken."""
    for life in range(1, 1_000_000):
        if not path.exists():
            break
        path = path.with_name(f"{path.name[: -len('.steps')].partition('+')[0]}+{life}.steps")
    return path


class _Step:
    """One step of a user's loop; `loss` and `samples` may still be set inside."""

    __slots__ = ("epoch", "loss", "recorder", "samples")

    def __init__(self, recorder: StepRecorder, samples: int, loss: float, epoch: int) -> None:
        self.recorder, self.samples, self.loss, self.epoch = recorder, samples, loss, epoch

    def mark(self, phase: str) -> None:
        """Give the time since the last mark to a phase."""
        self.recorder.mark(phase)

    def __enter__(self) -> _Step:
        self.recorder.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:  # a step that raised did not happen
            self.recorder.end(samples=self.samples, loss=float(self.loss), epoch=self.epoch)
