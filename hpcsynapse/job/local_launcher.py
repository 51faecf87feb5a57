"""Starts the ranks of a run as processes of this machine, as `srun` would: the first failure ends all of them.

`python -m hpcsynapse.job local-launch N PROGRAM...`; on one of several hosts (`each_host`) they are that node's ranks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from hpcsynapse.job import supervise
from hpcsynapse.job.supervise import GRACES, Stopping

_NODE = {"HPCSYNAPSE_HOSTS_NODE": "0", "HPCSYNAPSE_HOSTS_NODES": "1"}  # and what they are on a machine alone


def main(arguments: list[str]) -> int:
    """Run N copies of the program and return the first non-zero exit code, else 0."""
    count, program = int(arguments[0]), arguments[1:]
    node, nodes = (int(os.environ.get(name, default)) for name, default in _NODE.items())
    children = {}
    with Stopping(GRACES.program) as stopping:
        for rank in range(node * count, (node + 1) * count):
            size = str(nodes * count)
            environ = {**os.environ, "HPCSYNAPSE_LAUNCH_RANK": str(rank), "HPCSYNAPSE_LAUNCH_SIZE": size}
            children[rank] = supervise.start(program, environ=environ)
        groups = [child.pid for child in children.values()]
        try:
            return _watch(children, stopping)
        finally:  # what ranks that have ended left running in the background, as a queue does at the end of a step
            for group in groups:
                supervise.send(group, signal.SIGKILL)


def _watch(children: dict[int, subprocess.Popen[bytes]], stopping: Stopping) -> int:
    first = 0
    while children:
        for rank, child in list(children.items()):
            code = child.poll()
            if code is None:
                continue
            del children[rank]
            if code and not first:
                first = supervise.exit_code(code)
                print(f"hpcsynapse: rank {rank} ended with exit code {first}; ending the others", file=sys.stderr)
                stopping.begin()
        if stopping.signal and not first:
            first = 128 + stopping.signal
        stopping.tell(child.pid for child in children.values())
        time.sleep(0.02)
    return first
