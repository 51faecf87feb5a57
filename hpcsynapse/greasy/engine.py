"""Runs a list by Greasy itself, and does not let go of it before all that it has started has ended."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from hpcsynapse.files import read_json
from hpcsynapse.greasy import hosts
from hpcsynapse.greasy.outcomes import from_record
from hpcsynapse.greasy.recorded import result_path
from hpcsynapse.greasy.tasks import Task
from hpcsynapse.greasy.work import RunRequest, Work, own_host
from hpcsynapse.job import supervise
from hpcsynapse.job.supervise import Stopping
from hpcsynapse.schedulers import srun

_TELL_SECONDS = 10.0  # for ssh to reach another node


def by_greasy(work: Work, request: RunRequest, stopping: Stopping, say: Callable[[str], None]) -> dict[int, int]:
    """Start Greasy by its path from bash, which its wrapper insists on, with all it needs in GREASY_* variables.

    List and log are named relative to their folder: Greasy cuts a value at "=" (src/greasyconfig.cpp), and its wrapper
    a path at a blank (bin/greasy).
    """
    engine = request.engine or ("basic-srun" if shutil.which("srun") and hosts.has_steps() else "basic-ssh")
    program = Path(str(shutil.which(request.greasy or "greasy"))).absolute()
    argv = ["bash", "-c", '"$0" "$1"', str(program), work.path.name]
    environ = {**work.environ, **_settings(work, engine, request.retries)}
    child = supervise.start(argv, environ=environ, cwd=str(work.folder))
    code = supervise.wait(child, stopping)
    if code:
        say(f"Greasy ended with {f'exit code {code}' if code > 0 else signal.Signals(-code).name}")
    if code or stopping.signal:
        _await_the_rest(work.left.tasks, child.pid, stopping, say)
    return {}


def _settings(work: Work, engine: str, retries: int) -> dict[str, str]:
    """Return the variables that tell Greasy its engine, its workers in order and its log."""
    kind, _, method = engine.partition("-")
    places = work.places
    if work.nodes_only:
        places = [own_host(task) or place for task, place in zip(work.left.tasks, places, strict=False)]
    settings = {
        "GREASY_ENGINE": kind,
        "GREASY_NWORKERS": str(len(places)),
        "GREASY_NODELIST": ",".join(places),
        "GREASY_MAXRETRIES": str(retries),
        "GREASY_STRICTCHECK": "yes",
        "GREASY_LOGFILE": "greasy.log",
        "GREASY_LOGLEVEL": "3",
    }
    if method:
        settings["GREASY_BASICREMOTEMETHOD"] = method
    if method == "srun":
        settings |= srun.SHARING
    if kind == "mpi":
        settings |= srun.node_count(work.environ, places)
    return settings


def _await_the_rest(tasks: Sequence[Task], group: int, stopping: Stopping, say: Callable[[str], None]) -> None:
    """Wait for lines that outlive Greasy: no signal reaches those on other nodes, or those that have lost it."""
    if running := _running(tasks):
        say(f"waiting for {len(running)} tasks that still run")
    told = False
    while running and time.monotonic() < stopping.deadline:
        if stopping.signal and not told:
            told = True
            for task in running:
                _tell(task)
        time.sleep(0.2)
        running = _running(running)
    supervise.wait_for_group(group, stopping)


def _running(tasks: Sequence[Task]) -> list[Task]:
    return [task for task in tasks if from_record(task).state == "running"]


def _tell(task: Task) -> None:
    """Send SIGTERM to the script of a line, on whatever node it runs."""
    path = result_path(task.command)
    record = read_json(path) if path else None
    if not record or not isinstance(pid := record.get("pid"), int):
        return
    script, host = shlex.quote(Path(shlex.split(task.command)[1]).name), str(record.get("host"))
    if not hosts.is_name(host):
        return
    told = f"grep -aqs {script} /proc/{pid}/cmdline && kill -TERM {pid}"
    argv = ["/bin/sh", "-c", told] if host == os.uname().nodename else ["ssh", "-q", "-oBatchMode=yes", host, told]
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=_TELL_SECONDS, check=False)
