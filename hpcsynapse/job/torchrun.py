"""The agent of torchrun on a node, started as a tool so that it finds Python's modules where they are."""

from __future__ import annotations

import sys
from runpy import run_module

from hpcsynapse.job.search_path import add_modules_of_users


def main(arguments: list[str]) -> int:
    """Run torchrun with its arguments; it ends the process with its own exit code where that is not 0."""
    add_modules_of_users()  # torch among them, at some sites
    sys.argv[1:] = arguments
    run_module("torch.distributed.run", run_name="__main__", alter_sys=True)
    return 0
