"""The store: models, loaders and data sets as folders with metadata on the shared file system; no database.

`STORE/{models,loaders,datasets}/NAME/` holds `content/`, the files as they came, and `entry.json`. An entry is written
as a draft and renamed, and renamed before it is removed: names with a dot in front are no entries.
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsynapse import fields, intake
from hpcsynapse.errors import SpecError
from hpcsynapse.intake import Limits, Source
from hpcsynapse.rundir import read_json, write_json
from hpcsynapse.usercode_checks import ENTRY_POINTS, STORED, problems

FOLDERS = {"model": "models", "loader": "loaders", "dataset": "datasets"}
DEFAULT_STORE = "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model, loader or data set: when it came and from whom, its size in bytes, and the check sum of its content.

    `sha256` is taken over every file's path, size and content, in order of the paths.
    """

    kind: str
    name: str
    added: float
    user: str
    size: int
    files: int
    sha256: str
    description: str
    path: str


def store_folder(explicit: str | Path | None = None) -> Path:
    """Return the folder of the store: the one given, HPCSYNAPSE_STORE, or ./store."""
    return _at_home(Path(explicit or os.environ.get("HPCSYNAPSE_STORE") or DEFAULT_STORE)).absolute()


def add(
    store: Path, kind: str, path: Path, *, name: str | None = None, description: str = "", limits: Limits | None = None
) -> Entry:  # fmt: skip
    """Take the files of a folder or zip archive into the store; code is parsed, never run.

    Raises SpecError, leaving nothing behind, when the name is taken or wrong, when code lacks its class or does not
    compile, and as `intake.opened` does.
    """
    limits = limits or Limits()
    name = name or (path.stem if path.is_file() else path.absolute().name)
    _check_name(name)
    fields.printable("description", description)
    if path.is_dir() and store.resolve().is_relative_to(path.resolve()):
        raise SpecError(f"{path} holds the store itself ({store})")
    place = store / FOLDERS[kind]
    draft = place / f".new-{name}-{uuid.uuid4().hex[:8]}"
    try:
        if (place / name).exists():
            raise SpecError(f"{kind} {name!r} exists already in {store}; remove it first or choose another --name")
        (draft / "content").mkdir(parents=True)
        with intake.opened(path, limits) as sources:
            size, digest = _write(draft / "content", sources, limits)
        _check_code(draft / "content", kind, path)
        facts = {"kind": kind, "name": name, "added": time.time(), "user": _user(), "size": size,
                 "files": len(sources), "sha256": digest, "description": description}  # fmt: skip
        write_json(draft / "entry.json", facts)
        draft.rename(place / name)  # fails when somebody took the name meanwhile
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            why = f"{kind} {name!r} exists already" if taken else f"{error.strerror or error}"
            raise SpecError(f"cannot add to {store}: {why}") from None
        raise
    return find(store, kind, name)


def entries(store: Path, kind: str | None = None) -> Iterator[Entry]:
    """Yield the entries of a store, or those of one kind, by name; what is no whole entry is passed over."""
    for one in [kind] if kind else FOLDERS:
        try:
            names = sorted(path.name for path in (store / FOLDERS[one]).iterdir())
        except OSError:
            continue
        for name in names:
            if entry := _read(store, one, name):
                yield entry


def find(store: Path, kind: str, name: str) -> Entry:
    """Return an entry; raises SpecError with the nearest name when there is none."""
    entry = _read(store, kind, name)
    if entry is None:
        hint = fields.nearest(name, [other.name for other in entries(store, kind)])
        raise SpecError(f"no {kind} {name!r} in {store}{hint}")
    return entry


def remove(store: Path, kind: str, name: str) -> Entry:
    """Remove an entry and return what it was; raises SpecError as `find` does, or when it cannot be removed."""
    entry = find(store, kind, name)
    target = store / FOLDERS[kind] / name
    old = target.with_name(f".old-{name}-{uuid.uuid4().hex[:8]}")
    try:
        target.rename(old)  # from now on nobody finds it, however long removing takes
        shutil.rmtree(old)
    except OSError as error:
        raise SpecError(f"cannot remove {target}: {error.strerror or error}") from None
    return entry


def locate(target: str, kind: str, base: str | Path) -> str:
    """Return the absolute path of a model, loader or data set given as `store:NAME` or as a path from `base`.

    Raises SpecError when the store has no such entry.
    """
    if target.startswith(STORED):
        return find(store_folder(), kind, target.removeprefix(STORED)).path
    return str(Path(base, _at_home(Path(target))))


def _at_home(path: Path) -> Path:
    """Return a path with `~` replaced; one of a person who is not known here stays as it is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _read(store: Path, kind: str, name: str) -> Entry | None:
    if not fields.is_run_name(name):
        return None
    place = store / FOLDERS[kind] / name
    facts = {**(read_json(place / "entry.json") or {}), "kind": kind, "name": name, "path": str(place / "content")}
    try:
        known = {item: fields.coerce(item, kind_of, facts[item]) for item, kind_of in fields.hints(Entry).items()}
    except (KeyError, SpecError):
        return None
    return Entry(**known)


def _write(content: Path, sources: Sequence[Source], limits: Limits) -> tuple[int, str]:
    """Write all files and return their size in bytes and their check sum."""
    total, whole = 0, hashlib.sha256()
    for source in sources:
        target = content / source.path
        target.parent.mkdir(parents=True, exist_ok=True)
        size, own = 0, hashlib.sha256()
        with target.open("xb") as file:
            for data in intake.chunks(source):
                size, total = size + len(data), total + len(data)
                if total > limits.size:  # a file that grows, or an archive that says less than it holds
                    raise SpecError(f"{source.path}: more than {limits.size} bytes in all; give --max-size")
                own.update(data)
                file.write(data)
        whole.update(os.fsencode(f"{source.path}\0{size}\0{own.hexdigest()}\0"))
    return total, whole.hexdigest()


def _check_code(content: Path, kind: str, path: Path) -> None:
    if kind in ENTRY_POINTS and (found := list(problems(content, kind))):
        raise SpecError("\n".join(problem.replace(str(content), str(path)) for problem in found))


def _check_name(name: str) -> None:
    if not fields.is_run_name(name):
        raise SpecError(
            f"name {name!r} cannot be kept; give --name with up to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user number without a name, as containers have
        return str(os.getuid())
