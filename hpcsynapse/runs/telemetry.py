"""Telemetry of nodes: one append-only file a node and start of the job, a first line of JSON, then fixed-size records.

The first line names the columns (name, kind as numpy writes it, unit, meaning), the node (`host`, `node_rank`, `cpus`,
`memory_bytes`), the `interval` (s) and what is `missing` and why, so that a file can be read without this module:
`numpy.frombuffer(rest, [(name, kind) for name, kind, _, _ in header["columns"]])`. A float that is not known is nan.
Records begin with `seq`, `flags`, `time` and `seconds`. Amounts (bytes, packets, CPU-seconds, joules) are those since
the record before, so that they may be summed, and divided by `seconds`; all else is as it was at `time`.

Records are written whole and in order: a sampler killed at any instant loses those that it had not written yet. A
reader drops what follows the last whole record, and what follows one whose number is not higher than the one before.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsynapse.errors import RecordError
from hpcsynapse.files import loads

FORMAT = "hpcsynapse-telemetry"
VERSION = 1
ENDING = ".telemetry"
LAST = 1  # bit of `flags`: the sampler ended in order, with what it watched
_CODES = {"<u4": "I", "<u2": "H", "<i4": "i", "<f8": "d", "<f4": "f", "<f2": "e"}
_HEADER_READ = 8192
_HEADER_LIMIT = 1 << 22
_WAITING = 600  # records that are kept while nothing can be written (a full disk); the oldest give way
_LARGEST = {"<u4": 0xFFFFFFFF, "<u2": 0xFFFF, "<i4": 0x7FFFFFFF, "<f2": 65504.0, "<f4": 3.4e38, "<f8": 1.7e308}
_ODD = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a file: its kind as numpy writes it, the unit of its values, and what they mean."""

    name: str
    kind: str
    unit: str
    meaning: str


# The first of every file.
STANDARD = (
    Column("seq", "<u4", "", "number of the record, from 0"),
    Column("flags", "<u2", "", "1: the last record, the sampler ended in order"),
    Column(
        "time", "<f8", "s", "when it was taken: Unix time at the start of the sampler, on by a clock that never jumps"
    ),
    Column("seconds", "<f4", "s", "time since the record before"),
)


def file_name(host: str, attempt: str) -> str:
    """Return the name of a node's file in one start of the job."""
    return f"{_ODD.sub('_', host)}.{_ODD.sub('_', attempt)}{ENDING}"


def record_of(columns: Iterable[Column]) -> struct.Struct:
    """Return how a record is packed; raises RecordError for a kind that is not known."""
    try:
        return struct.Struct("<" + "".join(_CODES[column.kind] for column in columns))
    except KeyError as error:
        raise RecordError(f"columns of kind {error} are not known to this release") from None


class TelemetryWriter:
    """Writes the file of one node; it must not exist yet (FileExistsError), so that one sampler a node writes.

    `columns` follow the standard ones; `description` is added to the first line.
    """

    def __init__(self, path: Path, columns: Sequence[Column], description: Mapping[str, object]) -> None:
        self.columns = (*STANDARD, *columns)
        self._record = record_of(self.columns)
        self._buffer = bytearray()
        self._begun = 0  # bytes of the first record in the buffer that are written already
        self._count = 0
        header = {
            "format": FORMAT,
            "version": VERSION,
            **description,
            "record_size": self._record.size,
            "columns": [[one.name, one.kind, one.unit, one.meaning] for one in self.columns],
        }
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._buffer += (json.dumps(header) + "\n").encode()
        self.flush()

    def add(self, time: float, seconds: float, values: Sequence[float | None], *, last: bool = False) -> None:
        """Take a record; None is not known. Nothing is written before `flush`."""
        kinds = [column.kind for column in self.columns[len(STANDARD) :]]
        packed = [_fitting(value, kind) for value, kind in zip(values, kinds, strict=True)]
        self._buffer += self._record.pack(self._count, LAST if last else 0, time, seconds, *packed)
        self._count += 1
        if self._count > 1 and (over := len(self._buffer) // self._record.size - _WAITING) > 0:
            first = self._record.size - self._begun if self._begun else 0  # a record once begun is written to its end
            del self._buffer[first : first + over * self._record.size]

    def flush(self) -> None:
        """Hand all to the operating system; after an error (OSError) a later call goes on where this one ended."""
        while self._buffer:
            done = os.write(self._file, self._buffer)
            self._begun = (self._begun + done) % self._record.size
            del self._buffer[:done]
        self._begun = 0

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            self._file = -1


def _fitting(value: float | None, kind: str) -> float:
    """Return a value that a column of a kind can hold."""
    whole = kind[1] in "ui"
    if value is None or not math.isfinite(value):
        return 0 if whole else math.nan
    most = _LARGEST[kind]
    held = min(max(value, 0 if kind[1] == "u" else -most), most)
    return int(held) if whole else held


class Telemetry:
    """The records of one node in one start of the job, as they were when the file was opened.

    Raises RecordError naming the file when it is not one of telemetry of a known version, and OSError.
    """

    __slots__ = ("_offset", "_record", "columns", "count", "header", "modified", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            head = os.read(descriptor, _HEADER_READ)
            while b"\n" not in head and len(head) < min(status.st_size, _HEADER_LIMIT):
                head += os.read(descriptor, _HEADER_LIMIT)
        finally:
            os.close(descriptor)
        self._offset = head.find(b"\n") + 1
        self.header, self.columns = _parsed(path, head[: self._offset])
        self._record = record_of(self.columns)
        self.count = max(0, status.st_size - self._offset) // self._record.size
        self.modified = status.st_mtime

    @property
    def host(self) -> str:
        """The name of the node."""
        return str(self.header.get("host", self.path.name))

    @property
    def interval(self) -> float:
        """Seconds between records, as they were asked for."""
        return _number(self.header.get("interval"), 1.0)

    @property
    def started(self) -> float:
        """When the sampler began, by the node's own clock (Unix time)."""
        return _number(self.header.get("started"), 0.0)

    @property
    def missing(self) -> dict[str, str]:
        """What is not measured, and why."""
        told = self.header.get("missing")
        return {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}

    def read(self, first: int = 0, last: int | None = None) -> bytes:
        """Return whole records in their order, from number `first` to before `last`, as in a slice."""
        begin, end, _ = slice(first, last).indices(self.count)
        with self.path.open("rb") as file:
            file.seek(self._offset + begin * self._record.size)
            data = file.read(max(0, end - begin) * self._record.size)
        data = data[: len(data) // self._record.size * self._record.size]
        newest, size = begin - 1, self._record.size  # numbers are never below the place in the file
        for at in range(0, len(data), size):
            number = int.from_bytes(data[at : at + 4], "little")
            if number <= newest:  # zeros that a crashed file system left
                return data[:at]
            newest = number
        return data

    def records(self, first: int = 0, last: int | None = None) -> list[dict[str, float]]:
        """Return records as dictionaries by the names of columns; without numpy, so for few of them."""
        names = [column.name for column in self.columns]
        found = self._record.iter_unpack(self.read(first, last))
        return [dict(zip(names, values, strict=True)) for values in found]

    def newest(self) -> dict[str, float] | None:
        """Return the newest record, or None before there is one."""
        return next(reversed(self.records(-8) or self.records()), None)

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Names and kinds of the columns, of which numpy makes a type."""
        return [(column.name, column.kind) for column in self.columns]


def _parsed(path: Path, line: bytes) -> tuple[dict[str, Any], tuple[Column, ...]]:
    try:
        header = loads(line.decode("utf-8"))
        columns = tuple(Column(*map(str, one)) for one in header["columns"])
    except (ValueError, RecursionError, TypeError, KeyError):
        raise RecordError(f"{path}: the first line is not the description of a telemetry file") from None
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise RecordError(f"{path}: format {header.get('format')!r} {header.get('version')!r} is not known here")
    if columns[: len(STANDARD)] and [one.name for one in columns[:4]] != [one.name for one in STANDARD]:
        raise RecordError(f"{path}: the first columns are not {', '.join(one.name for one in STANDARD)}")
    if header.get("record_size") != record_of(columns).size:
        raise RecordError(f"{path}: its columns do not make a record of {header.get('record_size')!r} bytes")
    return header, columns


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) else default


def telemetry(folder: Path) -> list[Telemetry]:
    """Return what each node of a folder recorded, by the number of the node, its name and start of the job.

    A file that holds no whole first line yet, or is none of telemetry, is passed over.
    """
    found = []
    try:
        paths = sorted(folder.glob(f"*{ENDING}"))
    except OSError:
        return []
    for path in paths:
        try:
            found.append(Telemetry(path))
        except (OSError, RecordError):
            continue
    return sorted(found, key=lambda one: (_number(one.header.get("node_rank"), 1e9), one.host, one.started))
