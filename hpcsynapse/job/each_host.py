"""Starts one program on every host of the job, by ssh on all but this one: the first failure ends all of them.

`python -m hpcsynapse.job each-host PROGRAM...`; each copy finds its number in HPCSYNAPSE_HOSTS_NODE.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hpcsynapse.job import ssh, supervise
from hpcsynapse.job.supervise import GRACES, Stopping

HOSTS = "HPCSYNAPSE_HOSTS_LIST"  # of the job, in its order
NODE, NODES = "HPCSYNAPSE_HOSTS_NODE", "HPCSYNAPSE_HOSTS_NODES"  # number of this one, and how many there are


class _Copy:
    """The program on one host."""

    def __init__(self, node: int, host: str, count: int, program: list[str]) -> None:
        self.host = host
        environ = {**os.environ, NODE: str(node), NODES: str(count)}
        self._remote = not ssh.is_here(host)
        self.child: subprocess.Popen[bytes]
        if self._remote:
            told = {"argv": program, "cwd": str(Path.cwd()), "environ": ssh.carried(environ)}
            self.child = ssh.start(host, "run", told)
        else:
            self.child = supervise.start(program, environ=environ)

    def beat(self) -> None:
        if self._remote:
            ssh.say(self.child)

    def tell(self, stopping: Stopping) -> None:
        """Let it end: on another host its agent does that, whose connection is cut only when the grace is over."""
        if not self._remote or stopping.over:
            stopping.tell([self.child.pid])
        elif stopping.begun:
            ssh.hang_up(self.child)


def main(arguments: list[str]) -> int:
    """Run the program on all hosts and return the first non-zero exit code, else 0."""
    hosts = os.environ[HOSTS].split()
    with Stopping(GRACES.launcher) as stopping:
        copies = [_Copy(node, host, len(hosts), arguments) for node, host in enumerate(hosts)]
        try:
            return _watch(list(copies), stopping)
        finally:
            for copy in copies:
                supervise.send(copy.child.pid, signal.SIGKILL)


def _watch(copies: list[_Copy], stopping: Stopping) -> int:
    first, beaten = 0, time.monotonic()
    while copies:
        for copy in list(copies):
            code = copy.child.poll()
            if code is None:
                copy.tell(stopping)
                continue
            copies.remove(copy)
            if code and not first:
                first = supervise.exit_code(code)
                print(f"hpcsynapse: on {copy.host}: exit code {first}; ending the others", file=sys.stderr)
                stopping.begin()
        if stopping.signal and not first:
            first = 128 + stopping.signal
        if time.monotonic() - beaten > ssh.BEAT:
            beaten = time.monotonic()
            for copy in copies:
                copy.beat()
        time.sleep(0.02)
    return first
