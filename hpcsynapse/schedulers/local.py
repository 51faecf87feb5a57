"""This machine as a queue of its own: the job script runs in the background with the life cycle of a queued job.

The adapter answers with this module's own small commands, so that it is an adapter like every other:
`python -m hpcsynapse.job local-queue start SCRIPT`, `... status ID ...`, `... cancel ID`.
A job id is `host:pid:start`, where start is the process's start time in clock ticks since boot: a reused process
number is never mistaken for the job.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcsynapse.errors import SchedulerOutputError
from hpcsynapse.job import devices, supervise
from hpcsynapse.job.search_path import tool
from hpcsynapse.job.supervise import GRACES
from hpcsynapse.schedulers.base import ANYWHERE, Ask, FoundJob, JobStatus, QueueState, Scheduler

_ID = re.compile(r"([\w.-]+):(\d+):(\d+)")


class Local(Scheduler):
    """Runs jobs on this machine, at once, one process session each."""

    name = "local"
    job_file = "job.sh"
    template = "local/job.sh.j2"
    job_id_variable = "${HPCSYNAPSE_LOCAL_JOB}"
    owner_variable = "$HOSTNAME:$$"
    lacks = ("queue.exclude",)
    one_machine = True
    launchers = ("local", *ANYWHERE)
    preferred = ("local", "mpirun")

    def submit_command(self, script: Path) -> list[str]:
        """Return the command that starts the script in a session of its own and prints the id."""
        return tool("local-queue", "start", str(script))

    def parse_job_id(self, stdout: str) -> str:
        """Return the id that `start` printed."""
        text = stdout.strip()
        if not _ID.fullmatch(text):
            raise SchedulerOutputError(
                f"the local scheduler printed no job id: {text!r}", command=["start"], stdout=stdout
            )
        return text

    def is_job_id(self, text: str) -> bool:
        """Tell whether this is a whole id, with the start of the process."""
        return _ID.fullmatch(text) is not None

    def find_command(self) -> list[str]:
        """Return the command that lists this machine's job scripts."""
        return tool("local-queue", "find")

    def parse_found(self, stdout: str) -> list[FoundJob]:
        """Read `id script` lines; processes have no names."""
        return [FoundJob(line.partition(" ")[0], line.partition(" ")[2], "") for line in stdout.split("\n") if line]

    def owner_id(self, job_id: str) -> str:
        """Return host and process number, which the script knows of itself."""
        return job_id.rpartition(":")[0]

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return the command that looks for the jobs' processes."""
        return tool("local-queue", "status", *job_ids)

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read `id state` lines."""
        found = {}
        for line in stdout.splitlines():
            job_id, _, native = line.partition(" ")
            reason = f"runs on {job_id.partition(':')[0]}; ask there" if native == "ELSEWHERE" else ""
            if not _ID.fullmatch(job_id):
                raise SchedulerOutputError(
                    f"not a line of the local scheduler: {line!r}", command=["status"], stdout=stdout
                )
            state = QueueState(native) if native in QueueState.__members__ else QueueState.UNKNOWN
            found[job_id] = JobStatus(state=state, native_state=native, reason=reason)
        return found

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """A finished job is simply not listed, so a failure is always one."""
        return False

    def cancel_command(self, job_id: str) -> list[str]:
        """Return the command that ends the job's process session."""
        return tool("local-queue", "cancel", job_id)

    def describe_site(self, ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return the cores and GPUs of this machine."""
        site = {
            "name": "this machine",
            "max_nodes": 1,
            "cpus_per_node": os.cpu_count() or 1,
            "gpus_per_node": len(devices.installed()),
        }
        return {"site": site, "queue": {"scheduler": self.name}}, []


def _start(script: str) -> None:
    """Start the script in the background, its output in logs/job.log beside it, and print its id."""
    path = Path(script)
    with (path.parent / "logs" / "job.log").open("ab") as log:
        child = supervise.start(["/bin/bash", script], output=log)
    # There even if the job has ended: nobody but this process can reap it.
    print(f"{socket.gethostname()}:{child.pid}:{supervise.start_ticks(child.pid, alive=False) or 0}")


def _session_of(job_id: str) -> int | None:
    """Return the pid (= session) of a job that still runs on this host."""
    match = _ID.fullmatch(job_id)
    if match and match[1] == socket.gethostname() and supervise.start_ticks(int(match[2])) == int(match[3]):
        return int(match[2])
    return None


def _status(job_ids: Sequence[str]) -> None:
    for job_id in job_ids:
        if job_id.partition(":")[0] != socket.gethostname():
            print(f"{job_id} ELSEWHERE")
        elif (pid := _session_of(job_id)) is not None:
            work = [one for one in supervise.descendants(pid) if not supervise.is_tool(one, "sampler")]
            held = all(map(supervise.is_stopped, work))
            print(f"{job_id} {QueueState.SUSPENDED if held else QueueState.RUNNING}")
        elif _left_behind(job_id):
            print(f"{job_id} {QueueState.RUNNING}")


def _left_behind(job_id: str) -> list[int]:
    """Return what still runs of a job whose script was killed: its ranks notice that, and end within seconds."""
    match, found = _ID.fullmatch(job_id), list[int]()
    mark = f"{supervise.Above.JOB_PID}={match[2] if match else ''}".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            ours = entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0")
            ticks = supervise.start_ticks(entry.name) if ours else None
            if match and ticks is not None and ticks >= int(match[3]):
                found.append(int(entry.name))
    return found


def _find() -> None:
    """Print every process here that is the shell of a job script, with the script's path."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            stat = supervise.process_stat(entry.name) if len(words) == 3 and words[0] == b"/bin/bash" else None
            first = stat is not None and stat[3] == entry.name  # of its session
            ticks = supervise.start_ticks(int(entry.name)) if first else None
            if ticks is not None and b"\n" not in words[1]:
                print(f"{socket.gethostname()}:{entry.name}:{ticks} {os.fsdecode(words[1])}")


def _cancel(job_id: str) -> int:
    pid = _session_of(job_id)
    if pid is None:
        print(f"no job {job_id} runs on {socket.gethostname()}", file=sys.stderr)
        return 1
    supervise.end_tree(pid, GRACES.cancel)  # the script ends its launcher and writes exit.json
    return 0


def main(words: list[str]) -> int:
    """Run one of the commands above."""
    verb, arguments = words[0], words[1:]
    if verb == "start":
        _start(*arguments)
    elif verb == "status":
        _status(arguments)
    elif verb == "find":
        _find()
    elif verb == "cancel":
        return _cancel(*arguments)
    return 0
