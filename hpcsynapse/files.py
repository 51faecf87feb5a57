"""Files that readers never see half written: whole replacement, whole lines, JSON; and who writes them."""

from __future__ import annotations

import errno
import getpass
import json
import math
import os
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_MAX_DIGITS = 19  # of a whole number that is read, with its sign
_STALE_TRIES = 10  # a stale handle (NFS, ESTALE) is looked up anew so many times


def is_there(path: Path) -> bool:
    """Tell whether a path leads to something now; no error of a shared file system is raised.

    A name that cannot be looked at counts as absent: what matters is looked for again.
    """
    for _ in range(_STALE_TRIES):
        try:
            path.stat()
        except OSError as error:
            if error.errno != errno.ESTALE:
                return False
        else:
            return True
    return False


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlast a crash of the machine, where its file system can (fsync(2))."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Say on standard error that something could not be written which nobody needs in order to go on."""
    try:
        yield
    except OSError as error:
        print(f"hpcsynapse: {what}: {error.strerror or error}", file=sys.stderr, flush=True)


def write_problem(folder: Path) -> str:
    """Return why nothing can be written into a folder now, in the system's words; empty where something can."""
    try:
        free = os.statvfs(folder).f_bavail
    except OSError as error:
        return error.strerror or str(error)
    if not os.access(folder, os.W_OK):  # also false on a file system that is read-only, for root too
        return os.strerror(errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES)
    return "" if free else os.strerror(errno.ENOSPC)


def draft_of(path: Path) -> Path:
    """Return the name under which this process writes what is to become a file: that of no process of another host."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")


def write_atomic(path: Path, text: str, private: bool = False) -> None:
    """Replace a file in one step: readers see the old text or the new one, never a part; `private`: the owner alone."""
    draft = draft_of(path)
    temporary = draft.with_name(f"{draft.name}.{uuid.uuid4().hex[:8]}")  # threads write the same file too
    try:
        if private:
            temporary.touch(0o600)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file in one step."""
    write_atomic(path, json.dumps(_finite(value), indent=1) + "\n")


def _finite(value: Any) -> Any:
    """Return a value with null for NaN and infinity, which JSON does not have (a loss that diverged)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number has too many digits")
    return int(text)


def _real(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


# Made once: json.loads makes one each time, which is felt where thousands of files are read.
_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_real, parse_constant=lambda _: None)


def loads(text: str) -> Any:
    """Return what a JSON text holds, with null for numbers that JSON does not have: nan, infinite, 1e400.

    Raises ValueError for what is not JSON or has whole numbers of more than 19 digits, which no program here writes,
    and RecursionError for what is nested too deeply.
    """
    return _DECODER.decode(text)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None where the file is missing or not one."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - half the time of read_text, of thousands of files
            value = loads(file.readall().decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def append_json(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line of JSON by a single write, so that lines of several writers do not mix."""
    line = (json.dumps(_finite(record)) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a file of one JSON object a line; damaged lines are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            record = loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def user_name() -> str:
    """Return the name by which what this process writes is known as the user's."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user number without a name, as containers have
        return str(os.getuid())
