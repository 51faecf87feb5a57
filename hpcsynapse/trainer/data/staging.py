"""Copies of data sets on a node's own disk, made once per node, whichever of its ranks comes first.

`SCRATCH/hpcsynapse-UID/HASH/` belongs to one source, whose path makes up HASH. In it every state of the source
that was copied has a folder of its own, so that a job never loses what it reads to a newer one, and `newest.json` names
the one that was last seen to be equal to the source: the same files with the same sizes and times of change. Copies
are left for later jobs; clearing scratch folders is the site's business.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hpcsynapse.errors import TrainError
from hpcsynapse.files import read_json, write_json
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.usercode.checks import FOLDER_ARGUMENTS

_log = logging.getLogger(__name__)
_BLOCK = 1 << 24  # bytes copied between looks at the clock
_PAUSE = 0.2  # seconds between tries of the lock
_RESERVE = 1 << 24  # bytes left free for the folders that the file system itself has to write
Manifest = dict[str, tuple[int, int]]  # of every file's path below the source: size, time of change (ns)


def staged(train: TrainSpec, scratch: str, limit: float) -> TrainSpec:
    """Return a description whose data set, and argument `val_path` if there is one, is a copy on this node."""
    if train.data_path is None:
        _log.info("train.stage = %r: the data set has no train.data_path to be copied", scratch)
    else:
        train = replace(train, data_path=stage(train.data_path, scratch, limit))
    name = FOLDER_ARGUMENTS[0]
    if isinstance(path := train.data_args.get(name), str):
        train = replace(train, data_args={**train.data_args, name: stage(path, scratch, limit)})
    return train


def stage(source: str, scratch: str, limit: float) -> str:
    """Return the path of an equal copy of a file or folder below `scratch`, in which $VARIABLES are this node's.

    Waits at most `limit` seconds, also for another rank's copying. Raises TrainError naming node and path.
    """
    began = time.time()
    origin = Path(os.path.abspath(Path(source).expanduser()))  # noqa: PTH100 - keeps the name of a link
    here = _Stage(origin, _expand(scratch), began, time.monotonic() + limit, limit)
    try:
        return str(here.copy())
    except OSError as error:
        raise TrainError(f"{here}: {error}") from None


def _expand(scratch: str) -> Path:
    found = Path(os.path.expandvars(scratch))
    if "$" in str(found) or not found.is_absolute():
        why = "a variable in it is not set there" if "$" in str(found) else "it is no absolute path"
        raise TrainError(f"train.stage = {scratch!r} means {str(found)!r} on node {socket.gethostname()}: {why}")
    return found


@dataclass(frozen=True, slots=True)
class _Stage:
    """One rank's wish for a copy; `began` is wall clock, `end` is monotonic (s)."""

    source: Path
    scratch: Path
    began: float
    end: float
    limit: float

    def __str__(self) -> str:
        return f"staging {self.source} to {self.scratch} on node {socket.gethostname()}"

    def copy(self) -> Path:
        """Return the copy, made now where there is none."""
        home = self._home()
        with (home / "lock").open("w") as lock:
            self._acquire(lock.fileno())
            newest = home / "newest.json"
            if not self._just_verified(newest):
                self._renew(home, newest)
            return home / str((read_json(newest) or {})["copy"]) / self.source.name

    def _home(self) -> Path:
        """Return the folder for this source, closed to other users: scratch folders are often everybody's."""
        own = self.scratch / f"hpcsynapse-{os.getuid()}"
        home = own / hashlib.sha256(os.fsencode(self.source)).hexdigest()[:16]
        own.mkdir(mode=0o700, exist_ok=True)
        about = own.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            raise TrainError(f"{self}: {own} is not a folder of this user's")
        home.mkdir(mode=0o700, exist_ok=True)
        return home

    def _acquire(self, lock: int) -> None:
        """Take the lock, which ends with the process that holds it."""
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._check_time("another rank of this node has not copied it")
                time.sleep(_PAUSE)

    def _just_verified(self, newest: Path) -> bool:
        """Tell whether another rank has compared the copy with its source since this one began."""
        try:
            return newest.stat().st_mtime >= self.began
        except FileNotFoundError:
            return False

    def _renew(self, home: Path, newest: Path) -> None:
        """Make sure of a copy of the source as it is now, and name it the newest."""
        manifest = dict(self._files(self.source))
        state = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
        copy = home / state
        made = copy / self.source.name
        if not made.exists() or dict(self._files(made)) != manifest:
            self._make(copy, manifest)
        write_json(newest, {"copy": state, "source": str(self.source)})

    def _files(
        self, top: Path, below: str = "", above: frozenset[str] = frozenset()
    ) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield the manifest of a file or folder; what links point to counts as lying there."""
        self._check_time("its files are not all listed")
        about = top.stat()
        if stat.S_ISREG(about.st_mode):
            yield below, (about.st_size, about.st_mtime_ns)
        elif not stat.S_ISDIR(about.st_mode):
            raise TrainError(f"{self}: {top} is neither a file nor a folder")
        elif (real := os.path.realpath(top)) in above:
            raise TrainError(f"{self}: {top} links back to a folder that it lies in")
        else:
            for entry in sorted(top.iterdir()):
                yield from self._files(entry, f"{below}/{entry.name}".lstrip("/"), above | {real})

    def _make(self, copy: Path, manifest: Manifest) -> None:
        """Copy to a draft, which is renamed when it is whole; a draft left by a killed rank is dropped."""
        size = sum(size for size, _ in manifest.values())
        draft = copy.with_name(copy.name + ".draft")
        for old in (draft, copy):
            shutil.rmtree(old, ignore_errors=True)
        free = shutil.disk_usage(copy.parent).free
        if size + _RESERVE > free:
            raise TrainError(f"{self}: {size / 1e9:.3f} GB are to be copied, but only {free / 1e9:.3f} GB are free")
        started, done = time.monotonic(), 0
        try:
            (draft / self.source.name if self.source.is_dir() else draft).mkdir(parents=True)
            for name, (length, changed) in manifest.items():
                target = draft / self.source.name / name
                target.parent.mkdir(parents=True, exist_ok=True)
                done = self._copy_file(self.source / name, target, length, done, size)
                os.utime(target, ns=(changed, changed))
            draft.rename(copy)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _log.info("%s: %d files, %.3f GB copied in %.1f s", self, len(manifest), size / 1e9, time.monotonic() - started)

    def _copy_file(self, source: Path, target: Path, length: int, done: int, size: int) -> int:
        """Copy one file and return how many bytes are done now."""
        first = done
        with source.open("rb") as reading, target.open("wb") as writing:
            while block := reading.read(_BLOCK):
                self._check_time(f"{done / 1e9:.3f} of {size / 1e9:.3f} GB were copied")
                writing.write(block)
                done += len(block)
        if done - first != length:
            raise TrainError(f"{self}: {source} has changed meanwhile: {length} bytes before, {done - first} now")
        return done

    def _check_time(self, state: str) -> None:
        if time.monotonic() > self.end:
            raise TrainError(f"{self}: not done within launch.start_limit = {self.limit:g} s: {state}")
