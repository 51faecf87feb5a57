"""Starts the ranks of a run as processes of this machine, as `srun` would: the first failure ends all of them.

`python -m hpcsynapse.local_launcher N PROGRAM...`
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType

_GRACE_SECONDS = 10.0


def main() -> int:
    """Run N copies of the program and return the first non-zero exit code, else 0."""
    count, program = int(sys.argv[1]), sys.argv[2:]
    stopping: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stopping.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    children = {}
    for rank in range(count):
        environ = {**os.environ, "HPCSYNAPSE_LAUNCH_RANK": str(rank), "HPCSYNAPSE_LAUNCH_SIZE": str(count)}
        # A group of its own for each rank, so that ending it also ends what it started.
        children[rank] = subprocess.Popen(program, env=environ, start_new_session=True)
    groups = [child.pid for child in children.values()]
    try:
        return _watch(children, stopping)
    finally:
        _end_left_over(groups)


def _watch(children: dict[int, subprocess.Popen[bytes]], stopping: list[int]) -> int:
    first, deadline = 0, float("inf")
    while children:
        for rank, child in list(children.items()):
            code = child.poll()
            if code is None:
                continue
            del children[rank]
            if code and not first:
                first = 128 - code if code < 0 else code
                print(f"hpcsynapse: rank {rank} ended with exit code {first}; ending the others", file=sys.stderr)
        if stopping and not first:
            first = 128 + stopping[0]
        if first and deadline == float("inf"):
            _signal_all(children, signal.SIGTERM)
            deadline = time.monotonic() + _GRACE_SECONDS
        elif time.monotonic() > deadline:
            _signal_all(children, signal.SIGKILL)
        time.sleep(0.02)
    return first


def _end_left_over(groups: Iterable[int]) -> None:
    """Kill what ranks that have ended left running in the background, as a queue does at the end of a step."""
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _signal_all(children: dict[int, subprocess.Popen[bytes]], number: int) -> None:
    for child in children.values():
        try:
            os.killpg(child.pid, number)
            os.killpg(child.pid, signal.SIGCONT)  # a stopped process takes SIGTERM only when it goes on
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    sys.exit(main())
