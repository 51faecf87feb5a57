"""The store: models, loaders and data sets as folders with metadata on the shared file system; no database.

`STORE/{models,loaders,datasets}/NAME/` holds `content/`, the files as they came, and `entry.json`. An entry is written
as a draft and renamed, and renamed before it is removed: names with a dot in front are no entries.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.files import read_json, user_name, write_json
from hpcsynapse.table import column, columns
from hpcsynapse.usercode import intake
from hpcsynapse.usercode.checks import ENTRY_POINTS, STORED, WEIGHTS, problems
from hpcsynapse.usercode.intake import Limits, Source

FOLDERS = {"model": "models", "loader": "loaders", "dataset": "datasets"}
DEFAULT_STORE = "store"
_WEIGHTS = (".pth", ".pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model, loader or data set; the fields, in this order, are the columns."""

    kind: str = column("model, loader or dataset")
    name: str = column("name in the store")
    size: int = column("bytes of all files")
    files: int = column("number of files")
    added: float = column("when it came, Unix time")
    user: str = column("who added it")
    sha256: str = column("check sum of every file's path, size and content, in order of the paths")
    description: str = column("what it is")
    path: str = column("folder of its files")


COLUMNS = columns(Entry)


def store_folder(explicit: str | Path | None = None) -> Path:
    """Return the folder of the store: the one given, HPCSYNAPSE_STORE, or ./store."""
    return _at_home(Path(explicit or os.environ.get("HPCSYNAPSE_STORE") or DEFAULT_STORE)).absolute()


def add(
    store: Path,
    kind: str,
    path: Path,
    *,
    name: str | None = None,
    description: str = "",
    weights: Path | None = None,
    limits: Limits | None = None,
) -> Entry:
    """Take the files of a folder or zip archive into the store; code is parsed, never run.

    `weights` is for a model: a file model.pth, or a folder or archive with nothing but it. Raises SpecError, leaving
    nothing behind, when the name is taken or wrong, when code lacks its class or does not compile, and as
    `intake.opened` does.
    """
    if weights is not None and kind != "model":
        raise SpecError(f"a {kind} has no weights; give them with a model")
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
        contents = _fill(draft / "content", kind, path, weights, limits or Limits())
        about = {"kind": kind, "name": name, "added": time.time(), "user": user_name()}
        write_json(draft / "entry.json", {**about, **contents, "description": description})
        draft.rename(place / name)  # fails when somebody took the name meanwhile
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            why = f"{kind} {name!r} exists already" if taken else f"{error.strerror or error}"
            raise SpecError(f"cannot add to {store}: {why}") from None
        raise
    return find(store, kind, name)


def _fill(content: Path, kind: str, path: Path, weights: Path | None, limits: Limits) -> dict[str, object]:
    """Write an entry's files, and return their size, number and check sum; raises SpecError for code that lacks."""
    with intake.opened(path, limits) as sources:
        size, digest = _write(content, sources, limits)
    _check_code(content, kind, path)
    if weights is not None:
        _put_weights(content, weights, limits)
        sources, size, digest = _contents(content, limits)
    return {"size": size, "files": len(sources), "sha256": digest}


def add_weights(store: Path, name: str, path: Path, limits: Limits | None = None) -> Entry:
    """Put weights beside the source of a model that is stored already, in place of those it may have.

    `path` is a file model.pth, or a folder or archive with nothing but it. Raises SpecError, leaving the model as it
    was, when there is no such model and as `add` does.
    """
    limits = limits or Limits()
    entry = find(store, "model", name)
    content = Path(entry.path)
    try:
        _put_weights(content, path, limits)
        sources, size, digest = _contents(content, limits)
        facts = asdict(replace(entry, size=size, files=len(sources), sha256=digest))
        del facts["path"]
        write_json(content.parent / "entry.json", facts)
    except OSError as error:
        raise SpecError(f"cannot add weights to {content.parent}: {error.strerror or error}") from None
    return find(store, "model", name)


def stored(store: Path, kind: str | None = None) -> Iterator[Entry]:
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
        hint = fields.nearest(name, [other.name for other in stored(store, kind)])
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
        whole.update(_line(source, size, own.hexdigest()))
    return total, whole.hexdigest()


def _put_weights(content: Path, path: Path, limits: Limits) -> None:
    """Write the file of weights into the folder of a model, whole or not at all."""
    draft = content.parent / f".new-{uuid.uuid4().hex[:8]}"
    try:
        draft.mkdir()
        with _weights(path, limits) as source:
            _write(draft, [source], limits)
        (draft / WEIGHTS).replace(content / WEIGHTS)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _weights(path: Path, limits: Limits) -> Iterator[Source]:
    """Yield the one file of weights that is meant; what torch.save writes is an archive too, but is taken whole."""
    if path.is_file() and path.suffix in _WEIGHTS:
        yield Source(PurePosixPath(WEIGHTS), path.stat().st_size, lambda: path.open("rb"))
        return
    with intake.opened(path, limits) as sources:
        if len(sources) != 1 or sources[0].path.suffix not in _WEIGHTS:
            shown = ", ".join(str(source.path) for source in sources[:3]) or "nothing"
            raise SpecError(f"{path}: weights are one file {WEIGHTS}, but it holds {shown}")
        yield replace(sources[0], path=PurePosixPath(WEIGHTS))


def _contents(content: Path, limits: Limits) -> tuple[list[Source], int, str]:
    """Return the files of an entry, their size in bytes and their check sum."""
    with intake.opened(content, limits) as sources:
        total, whole = 0, hashlib.sha256()
        for source in sources:
            size, own = 0, hashlib.sha256()
            for data in intake.chunks(source):
                size += len(data)
                own.update(data)
            total += size
            whole.update(_line(source, size, own.hexdigest()))
        return sources, total, whole.hexdigest()


def _line(source: Source, size: int, digest: str) -> bytes:
    """Return what a file adds to the check sum of its entry."""
    return os.fsencode(f"{source.path}\0{size}\0{digest}\0")


def _check_code(content: Path, kind: str, path: Path) -> None:
    if kind in ENTRY_POINTS and (found := list(problems(content, kind))):
        if kind == "model" and [item.name for item in content.iterdir()] == [WEIGHTS]:
            found.append(f"{path} holds weights alone: add them to a stored model with hpcsynapse store weights NAME")
        raise SpecError("\n".join(problem.replace(str(content), str(path)) for problem in found))


def _check_name(name: str) -> None:
    if not fields.is_run_name(name):
        raise SpecError(
            f"name {name!r} cannot be kept; give --name with up to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
