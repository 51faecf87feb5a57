"""What a job does on one of its hosts, started there by ssh: `python -m hpcsynapse.job host-agent look|hold|run`.

The first line of its input says what to do, as JSON. Further bytes are signs of life: where the input ends, or none
came for long, whoever started it is gone, and all that it holds or runs here ends.
"""

from __future__ import annotations

import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcsynapse import __version__
from hpcsynapse.errors import CommandError
from hpcsynapse.job import device_locks, ssh, supervise
from hpcsynapse.job.supervise import GRACES, Stopping

JOB = "HPCSYNAPSE_HOSTS_JOB"  # names the job in the environment of all its processes
BUSY = 3  # exit code where too few GPUs are free
_SILENCE = 60.0  # seconds without a sign of life


def main(arguments: list[str]) -> int:
    """Do what the verb and the first line of the input say; return an exit code."""
    told = ssh.read_line()
    return {"look": _look, "hold": _hold, "run": _run}[arguments[0]](told)


class _Starter:
    """Whoever started this process, at the other end of its input."""

    def __init__(self) -> None:
        self._heard, self._closed = time.monotonic(), False

    def gone(self, wait: float = 0.2) -> bool:
        """Tell whether the input has ended or was silent for too long; looks for so many seconds."""
        if self._closed:
            time.sleep(wait)
        elif select.select([0], [], [], wait)[0]:
            self._closed = not os.read(0, 4096)
            self._heard = time.monotonic()
        return self._closed or time.monotonic() - self._heard > _SILENCE


def _look(told: dict[str, Any]) -> int:
    """Print what there is on this host: time, Python, GPUs, whether a file is seen and other hosts are reached."""
    found = device_locks.present(told.get("slots"))
    file = told.get("file")
    unreached = {}
    for host in told.get("reach", ()):
        with suppress(CommandError):
            ssh.call(host, ["true"], limit=20)
            continue
        unreached[host] = True
    print(
        json.dumps(
            {
                "time": time.time(),
                "python": platform.python_version(),
                "version": __version__,
                "gpus": found,
                "free": device_locks.free(found),
                "file": Path(file).read_text() if file and Path(file).is_file() else "",
                "unreached": sorted(unreached),
            }
        ),
        flush=True,
    )
    return 0


def _hold(told: dict[str, Any]) -> int:
    """Take GPUs of this host for a job and hold them while it lasts; then end what it has left running here."""
    starter, wanted = _Starter(), int(told["gpus"])
    with Stopping(GRACES.program) as stopping:
        present = device_locks.present(told.get("slots"))
        taken, claims = device_locks.take(present, wanted)
        print(json.dumps({"devices": taken, "present": len(present)}), flush=True)
        if len(taken) < wanted:
            return BUSY
        while not starter.gone() and not stopping.signal:
            pass
        end_all_of(str(told["job"]))
        for claim in claims:
            claim.close()
    return 0


def _run(told: dict[str, Any]) -> int:
    """Run a program with the environment and in the folder of the job; it ends with whoever started it."""
    starter = _Starter()
    with Stopping(GRACES.server) as stopping:
        try:
            child = supervise.start(told["argv"], environ=told["environ"], cwd=told["cwd"])
        except OSError as error:
            print(f"hpcsynapse: {told['argv'][0]}: {error.strerror}", file=sys.stderr)
            return 127
        while child.poll() is None:
            if starter.gone():
                stopping.begin()
            stopping.tell([child.pid])
        supervise.send(child.pid, signal.SIGKILL)  # what it has left running in the background
        return supervise.exit_code(child.returncode)


def processes_of(job: str) -> list[int]:
    """Return the processes of a job on this machine, as their environment tells."""
    mark, found = f"{JOB}={job}".encode(), []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid() and supervise.start_ticks(pid) is not None]


def end_all_of(job: str) -> None:
    """End what is left of a job on this machine: SIGTERM, and SIGKILL after the grace of programs."""
    limit = time.monotonic() + GRACES.program
    told = set[int]()
    while left := processes_of(job):
        for pid in left:
            number = signal.SIGKILL if time.monotonic() > limit else signal.SIGTERM if pid not in told else 0
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        told.update(left)
        if time.monotonic() > limit + GRACES.program:  # what cannot be killed: it waits for a disk
            return
        time.sleep(0.1)


def first_line(child: subprocess.Popen[bytes], limit: float) -> dict[str, Any] | None:
    """Return what an agent printed, behind whatever a login prints; None where it ended or said nothing for so long."""
    stream, found, until = child.stdout, bytearray(), time.monotonic() + limit
    while stream is not None and time.monotonic() < until:
        if not select.select([stream], [], [], 0.2)[0]:
            continue
        if not (piece := os.read(stream.fileno(), 4096)):
            return None
        found += piece
        for line in found.split(b"\n")[:-1]:
            with suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict):
                    return told
    return None
