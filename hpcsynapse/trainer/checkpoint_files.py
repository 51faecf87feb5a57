"""Files of tensors: whole or not there, on disk before they are called by their name, and what is wrong with one."""

from __future__ import annotations

import errno
import logging
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from hpcsynapse.files import draft_of, sync_folder
from hpcsynapse.units import format_bytes

_log = logging.getLogger(__name__)


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace a file of tensors in one step, and remove what one killed while writing it has left.

    Raises OSError when the file could not be written; its name is the old file's then, or no file's.
    """
    temporary = draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, content)
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, RuntimeError):  # what torch makes of a write that fails
            raise OSError(str(error.__context__ or error)) from error
        raise
    remove(path.parent, f".{path.name}.*")


def remove(folder: Path, pattern: str) -> None:
    """Remove the files of a folder that match a pattern; what cannot be removed is named in a warning and stays."""
    try:
        for left in folder.glob(pattern):
            left.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s in %s cannot be removed: %s", pattern, folder, error.strerror or error)


def check_space(folder: Path, content: Any) -> None:
    """Raise OSError (ENOSPC) where a folder's file system has no room for a content's tensors, in words with sizes.

    Quotas do not show in what a file system says of itself: they are found while writing.
    """
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors(content))
    try:
        found = os.statvfs(folder)
    except OSError:
        return  # the folder is yet to be made, or the write will tell
    free = found.f_bavail * found.f_frsize
    if free < needed:
        raise OSError(errno.ENOSPC, f"it takes {format_bytes(needed)}, but {format_bytes(free)} are free")


def tensors(content: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of a nested content."""
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from tensors(value)
    elif isinstance(content, Sequence) and not isinstance(content, str | bytes):
        for value in content:
            yield from tensors(value)


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint file, or None: its check sums are computed, which torch does not do.

    Raises OSError for a file that cannot be read, which may be whole.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        return f"is damaged ({error or type(error).__name__})"
    return f"is damaged (wrong check sum of {broken})" if broken else _unreadable(path)


def _unreadable(path: Path) -> str | None:
    """Return why a whole archive is no checkpoint, or None; the tensors stay in the file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - unpickling what is damaged raises anything
        return f"is damaged ({str(error).partition(chr(10))[0] or type(error).__name__})"
    return None if isinstance(content, dict) and "format" in content else "is no checkpoint of hpcsynapse"
