"""Step records: one file per rank, a first line of JSON that describes it, then fixed-size binary records.

Format version 1 (2026-11): see FIELDS. A reader drops what follows the last whole record, so a process killed at
any instant loses at most the records not yet written and never the file. `merge` joins the files of a run.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hpcsynapse.errors import RecordError

FORMAT = "hpcsynapse-steps"
VERSION = 1
# name, numpy type, struct code. Durations are seconds; start is Unix time; staleness is -1 where it has no meaning.
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
)
PHASES = ("data", "forward", "backward", "communicate", "update")
WARMUP = 1  # bit of `flags`: one of the first steps after a start
RECORD = struct.Struct("<" + "".join(code for _, _, code in FIELDS))
MERGED_NAME = "merged.steps"
_FLUSH_SECONDS = 1.0
_BUFFER_RECORDS = 512
_HEADER_READ = 4096
_LISTINGS = 10


class StepRecorder:
    """Records the steps of one rank of any training program.

    `with recorder.step(samples=64, loss=value):` around a step is enough; `recorder.mark("forward")` inside gives
    the time since the last mark to a phase. `description` is added to the first line of the file. Without
    arguments run directory, rank and world size come from the environment that hpcsynapse gives to every rank.
    A recorder belongs to one thread. Cost: see benchmarks/recorder.py.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        rank: int | None = None,
        warmup: int = 10,
        **description: object,
    ) -> None:
        environ = os.environ
        run = environ.get("HPCSYNAPSE_RUN_DIR")
        self.rank = int(environ.get("RANK", "0")) if rank is None else rank
        target = Path(folder) if folder is not None else Path(run or ".") / "timings"
        target.mkdir(parents=True, exist_ok=True)
        self.path = target / f"rank-{self.rank:05d}.{environ.get('HPCSYNAPSE_ATTEMPT', '0')}.steps"
        self.header = self._describe(description)
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
        self._count = 0

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

    def begin(self) -> None:
        """Start the clock of a step."""
        self._begin = self._last = self._clock()

    def mark(self, phase: str) -> None:
        """Give the time since the last mark (or the begin) to a phase: one of PHASES."""
        now = self._clock()
        self._phases[phase] += now - self._last
        self._last = now

    def end(self, *, samples: int, loss: float = float("nan"), epoch: int = 0, step: int | None = None,
            staleness: int = -1) -> None:  # fmt: skip
        """Write the record of the step that ends now; steps count from 0 when not given."""
        now = self._clock()
        phases = self._phases
        number = self._count if step is None else step
        self.write(
            number, epoch, self._begin + self._wall_offset, phases["data"], phases["forward"], phases["backward"],
            phases["communicate"], phases["update"], now - self._begin, samples, loss, staleness,
        )  # fmt: skip
        self._count = number + 1
        phases["data"] = phases["forward"] = phases["backward"] = phases["communicate"] = phases["update"] = 0.0
        # The next step's data phase begins here unless begin() is called again.
        self._begin = self._last = now

    def write(
        self, step: int, epoch: int, start: float, data: float, forward: float, backward: float,
        communicate: float, update: float, total: float, samples: int, loss: float, staleness: int = -1,
    ) -> None:  # fmt: skip
        """Write one record whose durations (seconds) were measured elsewhere, e.g. by CUDA events."""
        used = self._used
        RECORD.pack_into(
            self._buffer, used, step, epoch, start, data, forward, backward, communicate, update, total, samples,
            loss, staleness, WARMUP if self._written < self._warmup else 0,
        )  # fmt: skip
        self._written += 1
        self._used = used = used + RECORD.size
        now = self._clock()
        if now - self._flushed >= _FLUSH_SECONDS or used > self._full:
            self._flushed = now
            self.flush()

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

    def __enter__(self) -> StepRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.close()


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


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the first line of a record file and the offset of its first record.

    Raises RecordError naming the file when it is not a record file of a known version.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(1 << 26)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    return parse_header(path, line), len(line)


def parse_header(path: Path, line: bytes) -> dict[str, Any]:
    """Return the description in the first line of a record file; raises RecordError as `read_header` does."""
    try:
        header = json.loads(line)
    except ValueError:
        raise RecordError(f"{path}: the first line is not the description of a record file") from None
    if not line.endswith(b"\n") or not isinstance(header, dict) or header.get("format") != FORMAT:
        raise RecordError(f"{path}: not a file of step records")
    if header.get("version") != VERSION or header.get("record_size") != RECORD.size:
        raise RecordError(f"{path}: format version {header.get('version')!r} is not known to this release")
    return header


class Part:
    """The records of one rank in one start of the job: where they lie, and their description."""

    __slots__ = ("count", "header", "offset", "path")

    def __init__(self, path: Path, header: dict[str, Any], offset: int, count: int) -> None:
        self.path, self.header, self.offset, self.count = path, header, offset, count

    def read(self) -> bytes:
        """Return the whole records as bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.count * RECORD.size)


def parts(folder: Path) -> list[Part]:
    """Return the records of every rank and start in a timings folder, by start and rank; torn ends are dropped.

    A file that holds no whole header yet (its rank was killed while opening it) is passed over. A merge that runs
    meanwhile is seen either before or after, never in between.
    """
    for _ in range(_LISTINGS):
        try:
            return _list_parts(folder)
        except FileNotFoundError:  # a merge removed what it had joined: look again
            continue
    raise RecordError(f"{folder}: the record files keep changing; read them when the run has ended")


def _list_parts(folder: Path) -> list[Part]:
    # The files are listed before the merged file is read: whatever a merge removes later is in the merged file.
    try:
        names = [path.name for path in folder.glob("rank-*.steps")]
    except OSError:
        return []
    found = _merged_parts(folder / MERGED_NAME)
    joined = {(part.header.get("file"), part.header.get("started")) for part in found}
    for name in names:
        part = _open_part(folder / name)
        # Present twice when a merge was killed before it removed what it had joined.
        if part and (name, part.header.get("started")) not in joined:
            found.append(part)
    return sorted(found, key=lambda part: (part.header.get("started", 0.0), part.header["rank"]))


def _merged_parts(path: Path) -> list[Part]:
    if not path.is_file():
        return []
    header, offset = read_header(path)
    return [Part(path, entry["header"], offset + entry["offset"], entry["count"]) for entry in header["parts"]]


def _open_part(path: Path) -> Part | None:
    # One open, one stat and mostly one read per rank: an open costs about 1 ms on a parallel file system.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        head = os.read(descriptor, _HEADER_READ)
    finally:
        os.close(descriptor)
    end = head.find(b"\n") + 1
    if end:
        header, offset = parse_header(path, head[:end]), end
    elif len(head) < _HEADER_READ:
        return None
    else:
        header, offset = read_header(path)
    return Part(path, header, offset, (size - offset) // RECORD.size)


def merge(folder: Path) -> Path | None:
    """Join all record files of a finished run into one and remove them; returns its path, or None if there are none.

    Killed at any instant it leaves a folder from which `parts` reads every record once.
    """
    target = folder / MERGED_NAME
    all_parts = parts(folder)
    if not any(part.path != target for part in all_parts):
        for path in _left_over(folder):
            path.unlink(missing_ok=True)
        return target if target.exists() else None
    entries, position = [], 0
    for part in all_parts:
        name = part.header.get("file", part.path.name)
        entries.append({"file": name, "header": {**part.header, "file": name}, "offset": position, "count": part.count})
        position += part.count * RECORD.size
    header = {"format": FORMAT, "version": VERSION, "record_size": RECORD.size, "parts": entries,
              "fields": [[name, kind] for name, kind, _ in FIELDS]}  # fmt: skip
    temporary = folder / f".{MERGED_NAME}.{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            file.write((json.dumps(header) + "\n").encode())
            for part in all_parts:
                file.write(part.read())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    for path in _left_over(folder):
        path.unlink(missing_ok=True)
    return target


def _left_over(folder: Path) -> list[Path]:
    """Return the files whose records are all in the merged file, which alone may be removed."""
    joined = {(part.header.get("file"), part.header.get("started")): part.count
              for part in _merged_parts(folder / MERGED_NAME)}  # fmt: skip
    left = []
    for path in folder.glob("rank-*.steps"):
        part = _open_part(path)
        if part and joined.get((path.name, part.header.get("started")), -1) >= part.count:
            left.append(path)
    return left


def iterate(folder: Path) -> Iterator[tuple[dict[str, Any], tuple[Any, ...]]]:
    """Yield (description of the rank, one record in the order of FIELDS) for people and small tools."""
    for part in parts(folder):
        for record in RECORD.iter_unpack(part.read()):
            yield part.header, record


def last_record(folder: Path, rank: int = 0) -> dict[str, Any] | None:
    """Return the newest record of a rank as a dictionary without reading the rest, or None."""
    try:
        mine = [part for part in parts(folder) if part.header["rank"] == rank and part.count]
        if not mine:
            return None
        part = mine[-1]
        with part.path.open("rb") as file:
            file.seek(part.offset + (part.count - 1) * RECORD.size)
            values = RECORD.unpack(file.read(RECORD.size))
    except (OSError, RecordError, struct.error):
        return None
    return dict(zip((name for name, _, _ in FIELDS), values, strict=True))


if __name__ == "__main__":  # the last line of a job script
    merge(Path(sys.argv[1]))
