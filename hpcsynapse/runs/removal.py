"""Removing a run or a study, so that it is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from hpcsynapse.errors import SpecError


def remove_folder(path: Path) -> None:
    """Remove a folder with all its files; a link to one is removed alone.

    It first takes a name that no command looks at, so that one which is killed leaves no half of a run; what such a one
    has left is removed too. Raises SpecError naming what cannot be removed.
    """
    try:
        if path.is_symlink():
            path.unlink()
            return
        hidden = path.with_name(f".removed-{path.name}.{socket.gethostname()}.{os.getpid()}")
        path.rename(hidden)
        for left in path.parent.glob(f".removed-{path.name}.*"):
            shutil.rmtree(left, ignore_errors=left != hidden)
    except OSError as error:
        raise SpecError(f"{error.filename or path} cannot be removed: {error.strerror or error}") from None
