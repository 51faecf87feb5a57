"""What the fake queues share: jobs as JSON files that one runner each writes, processes that really run and end.

A runner starts the job's script as the first process of a session, and ends it as its queue does: a `ladder` of
signals with seconds between them, sent to all processes of the job. All tasks run on this machine, or on the hosts that
FAKE_BATCH_HOSTS names, which ssh reaches and whose processes this machine sees (scripts/ssh-lab).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

HOSTS = os.environ.get("FAKE_BATCH_HOSTS", "").split()
MARK = "FAKE_BATCH_JOB"  # names the job in the environment of all its processes
DELAY = float(os.environ.get("FAKE_BATCH_DELAY", "0.3"))


@dataclass
class Job:
    """One job: `state` waiting, held, running or ended; `why` cancelled, timeout or nothing."""

    id: str
    script: str
    environment: dict[str, str]
    cwd: str
    seconds: float
    cancel: list[tuple[int, float]]
    limit: list[tuple[int, float]]
    state: str = "waiting"
    why: str = ""
    code: int | None = None
    umask: int = 0o022
    more: dict[str, str] = field(default_factory=dict)


def folder() -> Path:
    place = Path(os.environ["FAKE_BATCH_STATE"])
    place.mkdir(parents=True, exist_ok=True)
    return place


def hosts(count: int) -> list[str]:
    """The hosts of a job of so many nodes."""
    assert not HOSTS or count <= len(HOSTS), "more nodes than there are"
    return HOSTS[:count] or [os.uname().nodename] * count


def own_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What processes on any host need to be known as those of a job, and to find this lab."""
    return {key: value for key, value in environment.items() if key.startswith("FAKE_")}


def on_host(host: str, argv: Sequence[str], environment: Mapping[str, str], cwd: str, umask: int = 0o022) -> list[str]:
    """The argv that runs a program on a host with this environment alone."""
    variables = [f"{key}={value}" for key, value in environment.items() if key.isidentifier()]
    words = ["env", "-i", *variables, *argv]
    if not HOSTS or host == os.uname().nodename:
        return ["bash", "-c", f"cd {shlex.quote(cwd)} && umask {umask:o} && exec {shlex.join(words)}"]
    command = f"cd {shlex.quote(cwd)} && umask {umask:o} && exec {shlex.join(words)}"
    return ["ssh", "-o", "BatchMode=yes", host, command]


def new_number() -> int:
    number = 1
    while True:
        with suppress(FileExistsError):
            (folder() / f"number-{number}").mkdir()
            return number
        number += 1


def _file(job_id: str) -> Path:
    return folder() / f"job-{job_id}.json"


def load(job_id: str) -> Job | None:
    with suppress(OSError):
        return Job(**json.loads(_file(job_id).read_text()))
    return None


def all_jobs() -> list[Job]:
    return [Job(**json.loads(path.read_text())) for path in sorted(folder().glob("job-*.json"))]


def save(job: Job) -> None:
    new = _file(job.id).with_suffix(".new")
    new.write_text(json.dumps(asdict(job)))
    new.rename(_file(job.id))


def start(job: Job) -> None:
    """Begin to run a job, in a process of its own."""
    save(job)
    log = (folder() / "runner.log").open("ab")
    subprocess.Popen(
        [sys.executable, __file__, job.id], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )


def cancel(job_id: str) -> None:
    (folder() / f"cancel-{job_id}").touch()


def _run(job: Job) -> None:
    asked = folder() / f"cancel-{job.id}"
    end = time.monotonic() + DELAY
    while not asked.exists() and (job.state == "held" or _waits(job) or time.monotonic() < end):
        time.sleep(0.05)
    if asked.exists():
        job.state, job.why = "ended", "cancelled"
        return save(job)
    output = Path(job.more.get("output", "/dev/null"))
    spool = folder() / f"spool-{job.id}"  # copied when the job has ended
    with spool.open("wb") as file:
        environment = job.environment | own_variables(os.environ) | {MARK: job.id}
        host = hosts(1)[0]
        child = subprocess.Popen(
            on_host(host, ["/bin/bash", job.script], environment, job.cwd, job.umask),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        job.state = "running"
        save(job)
        job.why = _watch(child, job, asked)
    job.code, job.state = child.returncode, "ended"
    if str(output) != "/dev/null":
        with output.open("ab") as target:
            target.write(spool.read_bytes() + job.more.get("report", "").encode())
    return save(job)


def _waits(job: Job) -> bool:
    """Whether a job that this one comes after has not ended yet."""
    others = [load(one) for one in job.more.get("after", "").split()]
    return any(other is not None and other.state != "ended" for other in others)


def _watch(child: subprocess.Popen[bytes], job: Job, asked: Path) -> str:
    limit, ladder, why = time.monotonic() + job.seconds, None, ""
    due = 0.0
    while child.poll() is None:
        if ladder is None and (asked.exists() or time.monotonic() > limit):
            why = "cancelled" if asked.exists() else "timeout"
            ladder = list(job.cancel if asked.exists() else job.limit)
        if ladder and time.monotonic() >= due:
            number, wait = ladder.pop(0)
            due = time.monotonic() + wait
            _send(job, child.pid, number)
        time.sleep(0.05)
    _send(job, child.pid, signal.SIGKILL)
    return why


def _send(job: Job, session: int, number: int) -> None:
    """To every process of the job on all its hosts, or of its session on this one."""
    mark = f"{MARK}={job.id}".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError, IndexError, ValueError):
            if not entry.name.isdigit():
                continue
            if HOSTS:
                found = mark in (entry / "environ").read_bytes().split(b"\0")
            else:
                found = int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == session
            if found:
                os.kill(int(entry.name), number)


if __name__ == "__main__":
    found = load(sys.argv[1])
    assert found is not None
    _run(found)
