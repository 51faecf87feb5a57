"""Makes runs of a study one after another inside one allocation, each on as many of its first nodes as it needs.

`python -m hpcsynapse.job packed POINTS SECONDS` in the job, with the names of the runs on its standard input. A
run is begun only when its whole time limit is left; a run that was cancelled, or has finished before the job was
queued once more, is passed over. What the queue signals goes to the run that is underway, and no other begins.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hpcsynapse.errors import HpcSynapseError, SpecError
from hpcsynapse.files import read_json, write_json
from hpcsynapse.job import supervise
from hpcsynapse.job.supervise import GRACES, Ending
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers import queue_of_job
from hpcsynapse.schedulers.base import Scheduler
from hpcsynapse.study.folder import has_finished
from hpcsynapse.submission.cancel import cancel_requested

_LOOK = 0.2  # seconds between looks at the run that is underway
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGALRM)


class Allocation:
    """The nodes and the time of this job of a queue; `signalled` is the last signal that came."""

    def __init__(self, queue: Scheduler, seconds: float) -> None:
        self._queue, self._end = queue, time.monotonic() + seconds
        self._hosts = queue.hosts(os.environ)
        self._child: subprocess.Popen[bytes] | None = None
        self.signalled = 0
        self._early = 0  # a signal from while the run was being started

    def signal(self, number: int, _: FrameType | None = None) -> None:
        """Pass a signal on to the run that is underway, after which no other begins."""
        self.signalled = number
        if self._child is None:
            self._early = number
            return
        with suppress(ProcessLookupError):
            os.kill(self._child.pid, number)

    def make(self, run: RunDirectory) -> bool | None:
        """Make a run; return whether it ended well, or None where it does not begin. Raises HpcSynapseError."""
        spec = run.load_spec()
        limit = spec.resources.walltime.total_seconds()
        if self.signalled or cancel_requested(run) or time.monotonic() + limit > self._end:
            return None
        tasks = spec.resources.local_size
        environment = self._queue.subset(os.environ, self._hosts[: spec.allocated_nodes], tasks)
        run.logs.mkdir(exist_ok=True)
        with (run.logs / "job.log").open("ab") as log:
            script = str(run.job_script(self._queue.job_file))
            self._child = supervise.start(["/bin/bash", script], environ=environment, output=log)
            try:
                if self._early:
                    self.signal(self._early)
                return self._attend(run, self._child, time.monotonic() + limit)
            finally:
                self._child = None

    def _attend(self, run: RunDirectory, child: subprocess.Popen[bytes], end: float) -> bool:
        """Wait for a run, which is ended at its time limit and when somebody cancels it."""
        ending, late = Ending(GRACES.packed), False
        while child.poll() is None:
            late = late or time.monotonic() > end
            if late or self.signalled in (signal.SIGTERM, signal.SIGINT) or cancel_requested(run):
                ending.begin()
            ending.tell([child.pid], first_only=True)
            time.sleep(_LOOK)
        ended = read_json(run.exit)
        if late or ended is None:
            why = "TIMEOUT" if late else "KILL"
            write_json(run.exit, {"exit_code": 137, "time": time.time(), **(ended or {}), "signal": why})
        return child.returncode == 0


def main(arguments: list[str]) -> int:
    """`FOLDER SECONDS`, names of runs on standard input: make the runs; return 0 when each has ended well."""
    points, names = Path(arguments[0]), sys.stdin.read().split()
    queue = queue_of_job(os.environ)
    if queue is None:
        raise SpecError("no nodes are assigned here: this runs in the job of a study, which the queue starts")
    job = Allocation(queue, float(arguments[1]))
    for number in _SIGNALS:
        signal.signal(number, job.signal)
    made = []
    for name in names:
        run = RunDirectory(points / name)
        if has_finished(run):
            continue
        try:
            made.append(job.make(run))
        except (HpcSynapseError, OSError) as error:  # its folder was moved away, or is damaged
            print(f"hpcsynapse: run {name}: {error}", flush=True)
            made.append(False)
            continue
        words = {True: "ended well", False: "failed", None: "not begun"}
        print(f"hpcsynapse: run {name}: {words[made[-1]]}", flush=True)
    return 0 if all(made) else 1
