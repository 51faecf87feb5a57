"""Makes runs of a study one after another inside one Slurm allocation, each on as many of its first nodes as it needs.

`python -m hpcsynapse.study.allocation POINTS SECONDS` in the job, with the names of the runs on its standard input. A
run is begun only when its whole time limit is left; a run that was cancelled, or has finished before the job was
queued once more, is passed over. What the queue signals goes to the run that is underway, and no other begins.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hpcsynapse import hostlist
from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.rundir import RunDirectory, read_json, write_json
from hpcsynapse.status import cancel_requested
from hpcsynapse.study.folder import has_finished

_LOOK = 0.2  # seconds between looks at the run that is underway
_GRACE = 30.0  # seconds between SIGTERM and SIGKILL
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


def part(environ: Mapping[str, str], hosts: Sequence[str], tasks: int) -> dict[str, str]:
    """Return a job's environment as if it had been given these hosts only, with so many tasks on each.

    Source: sbatch(1), output environment variables; mpirun, hydra and this package's job files read them.
    """
    names, count = ",".join(hosts), str(len(hosts))
    return {
        **environ, "SLURM_JOB_NODELIST": names, "SLURM_NODELIST": names, "SLURM_NNODES": count,
        "SLURM_JOB_NUM_NODES": count, "SLURM_NTASKS": str(tasks * len(hosts)), "SLURM_NPROCS": str(tasks * len(hosts)),
        "SLURM_NTASKS_PER_NODE": str(tasks), "SLURM_TASKS_PER_NODE": f"{tasks}(x{count})",
    }  # fmt: skip


class Allocation:
    """The nodes and the time of this job; `signalled` is the last signal that came."""

    def __init__(self, hosts: Sequence[str], seconds: float) -> None:
        self._hosts, self._end = hosts, time.monotonic() + seconds
        self._child: subprocess.Popen[bytes] | None = None
        self.signalled = 0

    def signal(self, number: int, _: FrameType | None = None) -> None:
        """Pass a signal on to the run that is underway, after which no other begins."""
        self.signalled = number
        if self._child is not None:
            self._send(number)

    def make(self, run: RunDirectory) -> bool | None:
        """Make a run; return whether it ended well, or None where it does not begin. Raises HpcSynapseError."""
        spec = run.load_spec()
        limit = spec.resources.walltime.total_seconds()
        if self.signalled or cancel_requested(run) or time.monotonic() + limit > self._end:
            return None
        tasks = spec.resources.local_size
        environment = part(os.environ, self._hosts[: spec.allocated_nodes], tasks)
        run.logs.mkdir(exist_ok=True)
        with (run.logs / "job.log").open("ab") as log:
            self._child = subprocess.Popen(["/bin/bash", str(run.job_script("job.sh"))], env=environment,
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                           start_new_session=True)  # fmt: skip
            try:
                return self._attend(run, self._child, time.monotonic() + limit)
            finally:
                self._child = None

    def _attend(self, run: RunDirectory, child: subprocess.Popen[bytes], end: float) -> bool:
        """Wait for a run, which is ended at its time limit and when somebody cancels it."""
        told: float | None = None
        late = False
        while child.poll() is None:
            late = late or time.monotonic() > end
            if told is None and (late or self.signalled in (signal.SIGTERM, signal.SIGINT) or cancel_requested(run)):
                told = time.monotonic()
                self._send(signal.SIGTERM)
            elif told is not None and time.monotonic() > told + _GRACE:
                self._send(signal.SIGKILL, group=True)
            time.sleep(_LOOK)
        ended = read_json(run.exit)
        if late or ended is None:
            why = "TIMEOUT" if late else "KILL"
            write_json(run.exit, {"exit_code": 137, "time": time.time(), **(ended or {}), "signal": why})
        return child.returncode == 0

    def _send(self, number: int, group: bool = False) -> None:
        child = self._child
        with suppress(ProcessLookupError):
            if child is not None and group:
                os.killpg(child.pid, number)
            elif child is not None:
                os.kill(child.pid, number)


def main() -> int:
    """Make the runs and return 0 when each that was to be made has ended well."""
    points, names = Path(sys.argv[1]), sys.stdin.read().split()
    job = Allocation(hostlist.expand(os.environ["SLURM_JOB_NODELIST"]), float(sys.argv[2]))
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


if __name__ == "__main__":
    sys.exit(main())
