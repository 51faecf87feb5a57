"""The key of a run, with which its parameter servers and workers know one another: made once, readable by the owner."""

from __future__ import annotations

import os
import secrets
import stat
import time
from pathlib import Path

from hpcsynapse.errors import TrainError
from hpcsynapse.runs.directory import RunDirectory

_BYTES = 32
_LOOKS = 50
_PAUSE = 0.1  # seconds between looks: a network file system may show a new name late


def ensure_secret(run: RunDirectory) -> bytes:
    """Return the run's key of 32 random bytes, made by whoever asks first; two that ask at once get the same one.

    Raises TrainError when it cannot be made or read, is damaged, or others than the owner may read it.
    """
    target = run.secret
    try:
        if not target.exists():
            _create(target)
        return _read(target)
    except OSError as error:
        raise TrainError(f"the run's key {target} cannot be made or read: {error.strerror or error}") from error


def _create(target: Path) -> None:
    """Write the key under a name of its own, then give it its name unless somebody else was faster."""
    draft = target.with_name(f"{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        os.link(draft, target)  # unlike a rename it replaces nothing
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def _read(target: Path) -> bytes:
    for _ in range(_LOOKS):
        try:
            with target.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read(4 * _BYTES)
            break
        except FileNotFoundError:
            time.sleep(_PAUSE)
    else:
        raise FileNotFoundError(f"not there after {_LOOKS * _PAUSE:g} s")
    if mode & 0o077:
        raise TrainError(f"the run's key {target} has mode {mode:o}: others may read it; make it 600, or remove it")
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise TrainError(f"the run's key {target} is damaged; remove it, and start all processes of the run anew")
    return key
