"""The commands of the scheduler `hosts`, which is no program of its own.

`python -m hpcsynapse.job hosts-queue start SCRIPT`, `... status ID ...`, `... cancel ID`, where users are;
they call `begin`, `status-here` and `cancel-here` on the first host of the job.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcsynapse.errors import CommandError, HpcSynapseError, SubmitError
from hpcsynapse.job import ssh, supervise
from hpcsynapse.job.each_host import HOSTS
from hpcsynapse.job.host_agent import processes_of
from hpcsynapse.job.search_path import tool
from hpcsynapse.job.supervise import GRACES
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers.base import QueueState
from hpcsynapse.schedulers.hosts import ID, usable
from hpcsynapse.schedulers.hosts_keeper import NAME, WAITS
from hpcsynapse.spec.job import JobSpec

_END = "hpcsynapse-end"  # of the answer of a host: without it something was cut off
_AT_ONCE = 32


def on(verb: str, *arguments: str) -> list[str]:
    """Return the argv of one of these commands."""
    return tool("hosts-queue", verb, *arguments)


def look_at(machines: dict[str, int | None], told: dict[str, Any]) -> dict[str, dict[str, Any] | CommandError]:
    """Ask all machines at once what there is; returns for each its answer or why there is none."""

    def ask(host: str) -> dict[str, Any] | CommandError:
        try:
            said = ssh.call(host, ssh.agent("look"), said=ssh.line_of({**told, "slots": machines[host]}), limit=50)
            answer: dict[str, Any] = json.loads(said.splitlines()[-1])
            return answer
        except CommandError as error:
            return error
        except (ValueError, IndexError):
            return CommandError(f"host {host}: its answer is not understood", command=["look"])

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(machines, pool.map(ask, machines), strict=True))


def choose(spec: JobSpec) -> list[str]:
    """Return the hosts of a job, in the order of the list: those with enough free GPUs first.

    Raises SubmitError when too few answer or have so many GPUs at all.
    """
    machines = usable(spec)
    gpus = 0 if spec.launch.emulate else spec.resources.gpus
    wanted = max(spec.resources.local_size, gpus)
    able = {name: slots for name, slots in machines.items() if slots is None or slots >= wanted}
    fit, busy, why = list[str](), list[str](), list[str]()
    for host, told in look_at(able, {}).items():
        if isinstance(told, CommandError):
            why.append(str(told))
        elif len(told["gpus"]) < gpus:
            why.append(f"host {host} has {len(told['gpus'])} GPUs")
        else:
            (fit if len(told["free"]) >= gpus else busy).append(host)
    if len(fit) + len(busy) < spec.allocated_nodes:
        raise SubmitError(
            f"{spec.allocated_nodes} hosts with {gpus} GPUs are needed, {len(fit) + len(busy)} can be used: "
            f"{'; '.join(why)}; `hpcsynapse check` says more"
        )
    return [*fit, *busy][: spec.allocated_nodes]


def _start(script: str) -> None:
    """Choose the hosts of a job, start it in the background on the first of them and print its id."""
    spec = RunDirectory(Path(script).parent).load_spec()
    hosts = choose(spec)
    environ = ssh.carried(os.environ) if spec.site.export == "all" else {}
    told = {"script": script, "hosts": hosts, "environ": environ}
    print(ssh.call(hosts[0], on("begin"), said=ssh.line_of(told), limit=55).strip().splitlines()[-1])


def _begin() -> None:
    """Start the keeper of a job here, its output in the job's log, and print the job's id."""
    told = ssh.read_line()
    name, script = str(told["hosts"][0]), Path(told["script"])
    environ = {**os.environ, **told["environ"], HOSTS: " ".join(told["hosts"]), NAME: name}
    argv = tool("hosts-keeper", str(script))
    with (script.parent / "logs" / "job.log").open("ab") as log:
        child = supervise.start(argv, environ=environ, output=log)
    print(f"{name}:{child.pid}:{supervise.start_ticks(child.pid, alive=False) or 0}")


def _status(job_ids: Sequence[str]) -> None:
    """Print the state of every job, one a line; those of a host that does not answer may well go on."""
    by_host: dict[str, list[str]] = {}
    for job_id in job_ids:
        by_host.setdefault(job_id.partition(":")[0], []).append(job_id)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for lines in pool.map(_ask, by_host, by_host.values()):
            for line in lines:
                print(line)


def _ask(host: str, job_ids: Sequence[str]) -> list[str]:
    valid = [job_id for job_id in job_ids if ID.fullmatch(job_id)]
    try:
        lines = ssh.call(host, on("status-here", *valid), limit=25).splitlines() if valid else [_END]
    except CommandError as error:
        lines = [f"{job_id} NO_ANSWER {' '.join(str(error).split())}" for job_id in valid] + [_END]
    if lines[-1:] != [_END]:
        lines = [f"{job_id} NO_ANSWER host {host}: its answer was cut off" for job_id in valid] + [_END]
    return [line for line in lines[:-1] if line.partition(" ")[0] in valid]


def _status_here(job_ids: Sequence[str]) -> None:
    for job_id in job_ids:
        pid = _keeper_of(job_id)
        if pid is not None:
            below = supervise.descendants(pid)
            held = all(map(supervise.is_stopped, below))
            state = "WAITING waits for free GPUs on its hosts" if _waits(pid) else str(QueueState.RUNNING)
            print(job_id, QueueState.SUSPENDED if held else state)
        elif processes_of(job_id):  # its ranks notice that it was killed, and end within seconds
            print(job_id, QueueState.RUNNING)
    print(_END)


def _waits(keeper: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{keeper}/comm").read_text().strip() == WAITS
    return False


def _keeper_of(job_id: str) -> int | None:
    match = ID.fullmatch(job_id)
    alive = match is not None and supervise.start_ticks(int(match[2])) == int(match[3])
    return int(match[2]) if match and alive else None


def _cancel_here(job_id: str) -> int:
    pid = _keeper_of(job_id)
    if pid is None:
        print(f"no job {job_id} runs here", file=sys.stderr)
        return 1
    supervise.end_tree(pid, GRACES.cancel)
    return 0


def _cancel(job_id: str) -> int:
    if not ID.fullmatch(job_id):
        print(f"{job_id!r} is no job id", file=sys.stderr)
        return 1
    print(ssh.call(job_id.partition(":")[0], on("cancel-here", job_id), limit=55), end="")
    return 0


def main(words: list[str]) -> int:
    """Run one of the commands above."""
    verb, arguments = words[0], words[1:]
    try:
        match verb:
            case "start":
                _start(*arguments)
            case "begin":
                _begin()
            case "status":
                _status(arguments)
            case "status-here":
                _status_here(arguments)
            case "cancel":
                return _cancel(*arguments)
            case "cancel-here":
                return _cancel_here(*arguments)
    except HpcSynapseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
