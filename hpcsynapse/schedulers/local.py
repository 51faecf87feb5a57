"""This machine as a queue of its own: the job script runs in the background with the life cycle of a queued job.

The adapter answers with this module's own small commands, so that it is an adapter like every other:
`python -m hpcsynapse.schedulers.local start SCRIPT`, `... status ID ...`, `... cancel ID`.
A job id is `host:pid:start`, where start is the process's start time in clock ticks since boot: a reused process
number is never mistaken for the job.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hpcsynapse.errors import SchedulerOutputError
from hpcsynapse.schedulers.base import JobStatus, Scheduler

_ID = re.compile(r"([\w.-]+):(\d+):(\d+)")
_GRACE_SECONDS = 20.0


class Local(Scheduler):
    """Runs jobs on this machine, at once, one process session each."""

    name = "local"
    job_file = "job.sh"
    template = "local/job.sh.j2"
    job_id_variable = "${HPCSYNAPSE_LOCAL_JOB}"
    lacks = ("queue.exclude",)

    def submit_command(self, script: Path) -> list[str]:
        """Return the command that starts the script in a session of its own and prints the id."""
        return [sys.executable, "-m", __name__, "start", str(script)]

    def parse_job_id(self, stdout: str) -> str:
        """Return the id that `start` printed."""
        text = stdout.strip()
        if not _ID.fullmatch(text):
            raise SchedulerOutputError(f"the local scheduler printed no job id: {text!r}", command=["start"],
                                       stdout=stdout)  # fmt: skip
        return text

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return the command that looks for the jobs' processes."""
        return [sys.executable, "-m", __name__, "status", *job_ids]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read `id state` lines."""
        found = {}
        for line in stdout.splitlines():
            job_id, _, native = line.partition(" ")
            reason = f"runs on {job_id.partition(':')[0]}; ask there" if native == "ELSEWHERE" else ""
            state = "RUNNING" if native == "RUNNING" else "UNKNOWN"
            found[job_id] = JobStatus(state=state, native_state=native, reason=reason)
        return found

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """A finished job is simply not listed, so a failure is always one."""
        return False

    def cancel_command(self, job_id: str) -> list[str]:
        """Return the command that ends the job's process session."""
        return [sys.executable, "-m", __name__, "cancel", job_id]


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on (proc(5)), or None for no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _start_ticks(pid: int) -> int | None:
    """Return when a process that still runs was started, in clock ticks since boot."""
    stat = _stat(pid)
    return None if stat is None or stat[0] in "ZX" else int(stat[19])


def _start(script: str) -> None:
    """Start the script in the background, its output in logs/job.log beside it, and print its id."""
    path = Path(script)
    with (path.parent / "logs" / "job.log").open("ab") as log:
        child = subprocess.Popen(["/bin/bash", script], stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    stat = _stat(child.pid)  # there even if the job has ended: nobody but this process can reap it
    print(f"{socket.gethostname()}:{child.pid}:{stat[19] if stat else 0}")


def _session_of(job_id: str) -> int | None:
    """Return the pid (= session) of a job that still runs on this host."""
    match = _ID.fullmatch(job_id)
    if match and match[1] == socket.gethostname() and _start_ticks(int(match[2])) == int(match[3]):
        return int(match[2])
    return None


def _status(job_ids: Sequence[str]) -> None:
    for job_id in job_ids:
        if job_id.partition(":")[0] != socket.gethostname():
            print(f"{job_id} ELSEWHERE")
        elif _session_of(job_id) is not None:
            print(f"{job_id} RUNNING")


def _descendants(pid: int) -> list[int]:
    """Return the process and everything below it, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat:
                children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


def _cancel(job_id: str) -> int:
    pid = _session_of(job_id)
    if pid is None:
        print(f"no job {job_id} runs on {socket.gethostname()}", file=sys.stderr)
        return 1
    everything = {one: _start_ticks(one) for one in _descendants(pid)}
    os.kill(pid, signal.SIGTERM)  # the script ends its launcher and writes exit.json
    limit = time.monotonic() + _GRACE_SECONDS
    while _session_of(job_id) is not None and time.monotonic() < limit:
        time.sleep(0.05)
    for one, started in everything.items():
        if started is not None and _start_ticks(one) == started:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
    return 0


def main() -> int:
    """Run one of the commands above."""
    verb, arguments = sys.argv[1], sys.argv[2:]
    if verb == "start":
        _start(*arguments)
    elif verb == "status":
        _status(arguments)
    elif verb == "cancel":
        return _cancel(*arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
