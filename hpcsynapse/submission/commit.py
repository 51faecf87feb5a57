"""Which code a run was submitted with, as git knows it."""

from __future__ import annotations

from functools import cache

from hpcsynapse.errors import CommandError
from hpcsynapse.submission import commands

_SECONDS = 10.0  # a large working tree on a slow file system is not waited for


@cache
def commit_of(folder: str) -> str:
    """Return the commit of a working directory, with `-dirty` where its files differ; empty where git tells none."""
    question = ["git", "--no-optional-locks", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = commands.run([*question, "--exclude=*"], timeout=_SECONDS)
    except CommandError:
        return ""
    return "" if done.code else done.stdout.strip()
