"""`python -m hpcsynapse.job TOOL ...`: everything that job scripts call, each tool imported when it is asked for."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from hpcsynapse.errors import HpcSynapseError

# tool -> module and function, which takes the arguments behind the tool's name and returns an exit code
TOOLS = {
    "rank": "hpcsynapse.job.rank:main",
    "node": "hpcsynapse.job.node:main",
    "sampler": "hpcsynapse.job.sampler.watch:main",
    "local-launch": "hpcsynapse.job.local_launcher:main",
    "host-agent": "hpcsynapse.job.host_agent:main",
    "each-host": "hpcsynapse.job.each_host:main",
    "hostlist": "hpcsynapse.job.hostlist:main",
    "hosts": "hpcsynapse.schedulers:print_hosts",
    "ports": "hpcsynapse.job.ports:main",
    "merge-records": "hpcsynapse.runs.records:main",
    "exit-code": "hpcsynapse.runs.failure:main",
    "torchrun": "hpcsynapse.job.torchrun:main",
    "local-queue": "hpcsynapse.schedulers.local:main",
    "hosts-queue": "hpcsynapse.schedulers.hosts_commands:main",
    "hosts-keeper": "hpcsynapse.schedulers.hosts_keeper:main",
    "recover": "hpcsynapse.submission.comeback:main",
    "greasy": "hpcsynapse.greasy.launch:main",
    "packed": "hpcsynapse.study.allocation:main",
    "train": "hpcsynapse.trainer.run:command",
}


class _Messages(io.RawIOBase):
    """Standard error that loses what cannot be written: a full disk under a log must not end who writes into it."""

    def fileno(self) -> int:
        return 2

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with suppress(OSError):
            os.write(2, data)
        return len(data)


def main(arguments: list[str]) -> int:
    """Run one tool and return its exit code."""
    if not arguments or arguments[0] not in TOOLS:
        print(f"usage: python -m hpcsynapse.job {'|'.join(TOOLS)} ...", file=sys.stderr)
        return 2
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(_Messages()), errors="backslashreplace", line_buffering=True)
    module, _, name = TOOLS[arguments[0]].partition(":")
    run: Callable[[list[str]], int] = getattr(import_module(module), name)
    try:
        return run(arguments[1:])
    except HpcSynapseError as error:
        print(f"hpcsynapse: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a lost file server: the file and the system's words say all
        print(f"hpcsynapse: {arguments[0]}: {error}", file=sys.stderr)
        return 1
