"""Reading step records: of one rank, of a whole run, and joined into one file at the end of the run.

A reader drops what follows the last whole record and passes over a file without a whole first line.
"""

from __future__ import annotations

import fnmatch
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcsynapse.errors import RecordError
from hpcsynapse.files import draft_of, loads, reported, sync_folder
from hpcsynapse.timing import FIELDS, FORMAT, MERGED_NAME, PAUSE, READABLE, RECORD, VERSION

_HEADER_READ = 4096
_LISTINGS = 10
_LAST_READ = 16  # records at the end of a file among which the last step is looked for
_FLAGS = [name for name, _, _ in FIELDS].index("flags")
_NAMES = "*-*.steps"  # rank-00000.0.steps, ps-00000.0.steps; not merged.steps

_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("rank", "world_size", "node_rank", "nodes", "local_rank"), int),
    **dict.fromkeys(("attempt", "device", "engine", "file", "host", "role", "run", "strategy"), str),
    "started": (int, float),
}


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
        header = loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RecordError(f"{path}: the first line is not the description of a record file") from None
    if not line.endswith(b"\n") or not isinstance(header, dict) or header.get("format") != FORMAT:
        raise RecordError(f"{path}: not a file of step records")
    if header.get("version") not in READABLE or header.get("record_size") != RECORD.size:
        raise RecordError(f"{path}: format version {header.get('version')!r} is not known to this release")
    return sound(header)


def sound(header: dict[str, Any]) -> dict[str, Any]:
    """Return a description without the entries that are not of their kind: another program may have written it."""
    return {key: value for key, value in header.items() if isinstance(value, _KINDS.get(key, object))}


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


def parts(folder: Path, role: str | None = "worker") -> list[Part]:
    """Return the records of every rank and start in a timings folder, by start and rank; torn ends are dropped.

    Parameter servers (role `ps`) are left out unless asked for; None stands for all. A file that holds no whole header
    yet (its rank was killed while opening it) is passed over. A merge that runs meanwhile is seen either before or
    after, never in between.
    """
    for _ in range(_LISTINGS):
        try:
            found = _list_parts(folder)
            return [part for part in found if role in (None, part.header.get("role", "worker"))]
        except FileNotFoundError:  # a merge removed what it had joined: look again
            continue
    raise RecordError(f"{folder}: the record files keep changing; read them when the run has ended")


def _list_parts(folder: Path) -> list[Part]:
    # The files are listed before the merged file is read: whatever a merge removes later is in the merged file.
    try:  # not glob, which finds nothing where it may not look
        names = [name for name in os.listdir(folder) if fnmatch.fnmatch(name, _NAMES)]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RecordError(f"{folder}: its record files cannot be listed: {error.strerror or error}") from None
    found = _merged_parts(folder / MERGED_NAME)
    joined = {(part.header.get("file"), part.header.get("started")) for part in found}
    for name in names:
        part = _open_part(folder / name)
        # Present twice when a merge was killed before it removed what it had joined.
        if part and (name, part.header.get("started")) not in joined:
            found.append(part)
    for part in found:
        rank, started = part.header.get("rank"), part.header.get("started", 0.0)
        if not isinstance(rank, int) or not isinstance(started, (int, float)):
            raise RecordError(f"{part.path}: the description does not tell whose records these are (rank, started)")
    return sorted(found, key=lambda part: (part.header.get("started", 0.0), part.header["rank"]))


def _merged_parts(path: Path) -> list[Part]:
    """Return the parts of a merged file, of a cut one what is left; raises RecordError for one torn in its header."""
    if not path.is_file():
        return []
    try:
        header, offset = read_header(path)
        return [_left_of(path, entry, offset) for entry in header["parts"]]
    except RecordError as error:
        raise RecordError(f"{error}; move the file away to read what else is there") from None
    except (KeyError, TypeError, AttributeError):
        raise RecordError(f"{path}: the description of its parts is damaged") from None


def _left_of(path: Path, entry: dict[str, Any], offset: int) -> Part:
    """Return a part of a merged file with those of its records that are there."""
    first = offset + int(entry["offset"])
    there = (path.stat().st_size - first) // RECORD.size
    return Part(path, sound(entry["header"]), first, max(0, min(int(entry["count"]), there)))


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
    all_parts = parts(folder, role=None)
    if not any(part.path != target for part in all_parts):
        for path in _left_over(folder):
            path.unlink(missing_ok=True)
        return target if target.exists() else None
    entries, position = [], 0
    for part in all_parts:
        name = part.header.get("file", part.path.name)
        entries.append({"file": name, "header": {**part.header, "file": name}, "offset": position, "count": part.count})
        position += part.count * RECORD.size
    header = {
        "format": FORMAT,
        "version": VERSION,
        "record_size": RECORD.size,
        "parts": entries,
        "fields": [[name, kind] for name, kind, _ in FIELDS],
    }
    temporary = draft_of(target)
    try:
        with temporary.open("wb") as file:
            file.write((json.dumps(header) + "\n").encode())
            for part in all_parts:
                file.write(part.read())
            file.flush()
            os.fsync(file.fileno())  # before what it is made of is removed
        temporary.replace(target)
        sync_folder(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with reported("joined step records are left beside the joined file"):  # readers know them
        for part in all_parts:
            if part.path != target and (part.path.stat().st_size - part.offset) // RECORD.size <= part.count:
                part.path.unlink(missing_ok=True)
        if any(True for _ in folder.glob(_NAMES)):  # what an earlier merge had joined, or one that has grown meanwhile
            for path in _left_over(folder):
                path.unlink(missing_ok=True)
    return target


def _left_over(folder: Path) -> list[Path]:
    """Return the files whose records are all in the merged file, which alone may be removed."""
    joined = {
        (part.header.get("file"), part.header.get("started")): part.count
        for part in _merged_parts(folder / MERGED_NAME)
    }
    left = []
    for path in folder.glob(_NAMES):
        part = _open_part(path)
        if part and joined.get((path.name, part.header.get("started")), -1) >= part.count:
            left.append(path)
    return left


def iterate(folder: Path, role: str | None = "worker") -> Iterator[tuple[dict[str, Any], tuple[Any, ...]]]:
    """Yield (description of the rank, record of one step in the order of FIELDS) for people and small tools."""
    for part in parts(folder, role):
        for record in RECORD.iter_unpack(part.read()):
            if not record[_FLAGS] & PAUSE:
                yield part.header, record


def last_record(folder: Path, rank: int = 0) -> dict[str, Any] | None:
    """Return the record of a rank's newest step as a dictionary without reading the rest, or None."""
    _, steps = last_records(folder, rank, 1)
    return steps[-1] if steps else None


def last_records(folder: Path, rank: int = 0, count: int = _LAST_READ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the description of a rank and the records of its newest steps, by time; both empty where there are none.

    They are looked for among the last `count` records (16 at least) of the newest file that holds a step.
    """
    try:
        for part in reversed([part for part in parts(folder) if part.header["rank"] == rank]):
            read = min(part.count, max(count, _LAST_READ))
            with part.path.open("rb") as file:
                file.seek(part.offset + (part.count - read) * RECORD.size)
                found = list(RECORD.iter_unpack(file.read(read * RECORD.size)))
            names = [name for name, _, _ in FIELDS]
            steps = [dict(zip(names, values, strict=True)) for values in found if not values[_FLAGS] & PAUSE]
            if steps:
                return part.header, steps
    except (OSError, RecordError, struct.error):
        pass
    return {}, []


def main(arguments: list[str]) -> int:
    """Merge the records of a folder, at the end of a job."""
    merge(Path(arguments[0]))
    return 0
