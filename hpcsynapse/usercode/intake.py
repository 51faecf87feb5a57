"""What comes into the store: the files of a folder or of a zip archive, all looked at before any is written."""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from hpcsynapse import fields
from hpcsynapse.errors import SpecError

# What macOS puts beside the files of an archive, and what Python leaves beside sources.
_IGNORED = frozenset({"__MACOSX", "__pycache__"})
_DRIVE = re.compile(r"[A-Za-z]:")
_CHUNK = 2**20
_SMALL = 2**20  # bytes; an archive of no more is no bomb, whatever its ratio
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that one entry may hold: bytes, files, and bytes unpacked for each byte of an archive."""

    size: int = 100 * 2**30
    files: int = 1_000_000
    ratio: float = 200.0


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path inside the entry, its size in bytes, and how it is opened."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[list[Source]]:
    """Yield the files of a folder or archive, by path; the one top folder of an archive is left out of the paths.

    Raises SpecError for a link, anything that is no plain file, a name that would leave the folder or stands for two
    things, and more than the limits allow.
    """
    if path.is_dir():
        yield _checked(list(_of_folder(path, limits)), limits, path)
        return
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise SpecError(f"{path} is neither a folder nor a zip archive" if path.exists() else f"{path} does not exist")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise SpecError(f"{path}: not a whole zip archive: {error}") from None
    with archive:
        sources = _checked(list(_of_zip(archive, path, limits)), limits, path)
        size, packed = sum(source.size for source in sources), max(1, path.stat().st_size)
        if size > _SMALL and size / packed > limits.ratio:
            raise SpecError(
                f"{path}: {size} bytes out of {packed} look like a zip bomb (more than {limits.ratio:g} for one); "
                "unpack it yourself and add the folder, or give --max-ratio"
            )
        yield _unwrapped(sources)


def chunks(source: Source) -> Iterator[bytes]:
    """Yield the content of a file; raises SpecError when it cannot be read whole."""
    try:
        with source.open() as file:
            while data := file.read(_CHUNK):
                yield data
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise SpecError(f"{source.path}: damaged in the archive: {error}") from None
    except OSError as error:
        raise SpecError(f"{source.path}: {error.strerror or error}") from None


def _checked(sources: list[Source], limits: Limits, path: Path) -> list[Source]:
    """Return the files in order of their paths; raises SpecError when they are too large."""
    size = sum(source.size for source in sources)
    if size > limits.size:
        raise SpecError(f"{path}: {size} bytes are more than the {limits.size} allowed; give --max-size")
    return sorted(sources, key=lambda source: source.path.parts)


def _count(number: int, limits: Limits, path: Path) -> None:
    if number > limits.files:
        raise SpecError(f"{path}: more than the {limits.files} files allowed; give --max-files")


def _of_folder(top: Path, limits: Limits) -> Iterator[Source]:
    waiting, number = [PurePosixPath()], 0
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(top / place) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            raise SpecError(f"{top / place}: {error.strerror}") from None
        for name, facts in found:
            if stat.S_ISDIR(facts.st_mode):
                waiting += [place / name] if name not in _IGNORED else []
                continue
            if not stat.S_ISREG(facts.st_mode):
                raise SpecError(f"{top / place / name} is {_kind(facts.st_mode)}; only plain files are taken")
            number += 1
            _count(number, limits, top)
            yield Source(place / name, facts.st_size, lambda file=top / place / name: file.open("rb"))  # type: ignore[misc]


def _of_zip(archive: zipfile.ZipFile, path: Path, limits: Limits) -> Iterator[Source]:
    members = archive.infolist()
    _count(len(members), limits, path)
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for member in members:
        place = _place(member, path)
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise SpecError(f"{path}: {str(place)!r} is {_kind(mode)}; only plain files are taken")
        if member.flag_bits & 1 or member.compress_type not in _METHODS:
            how = "encrypted" if member.flag_bits & 1 else f"packed by method {member.compress_type}"
            raise SpecError(f"{path}: {str(place)!r} is {how}, which cannot be read")
        folder = member.orig_filename.endswith(("/", "\\"))
        if folder:
            folders.add(place)
        if _IGNORED & set(place.parts) or folder:
            continue
        if place in files:
            raise SpecError(f"{path}: {str(place)!r} is there twice")
        files.add(place)
        folders.update(place.parents)
        yield Source(place, member.file_size, lambda member=member: archive.open(member))  # type: ignore[misc]
    if both := files & folders:
        raise SpecError(f"{path}: {str(min(both))!r} is both a file and a folder")


def _place(member: zipfile.ZipInfo, path: Path) -> PurePosixPath:
    """Return where a member belongs below the target; raises SpecError when its name says anything else.

    A backslash separates folders like a slash: archivers of Windows write names so.
    """
    fields.one_line(f"{path}: name of a file", member.orig_filename)
    name = member.orig_filename.replace("\\", "/")
    parts = [part for part in name.rstrip("/").split("/") if part != "."]
    outside = name.startswith("/") or _DRIVE.match(name) or ".." in parts
    if outside or not all(parts) or (not parts and name != "./"):
        raise SpecError(f"{path}: {name!r} does not name a file below the folder that is unpacked into")
    if len(name.encode()) > 2000 or any(len(part.encode()) > 255 for part in parts):
        raise SpecError(f"{path}: {name[:60]!r}... is too long for the name of a file")
    return PurePosixPath(*parts)


def _unwrapped(sources: list[Source]) -> list[Source]:
    tops = {source.path.parts[0] for source in sources}
    if len(tops) != 1 or any(len(source.path.parts) == 1 for source in sources):
        return sources
    return [replace(source, path=PurePosixPath(*source.path.parts[1:])) for source in sources]


def _kind(mode: int) -> str:
    names = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return names.get(stat.S_IFMT(mode), "a device or something unknown")
