"""Machines reached by ssh as a queue: the job script runs in the background on the first host of the job.

The adapter answers with small commands of its own (`hosts_commands`). A job id is `host:pid:start`, where host is the
name of the first host in the list, and start that of its process in clock ticks since the host's boot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hpcsynapse.errors import SchedulerOutputError, SpecError
from hpcsynapse.findings import Finding
from hpcsynapse.job import hostlist
from hpcsynapse.job.devices import BY_NODE
from hpcsynapse.job.each_host import HOSTS, NODE
from hpcsynapse.job.host_agent import JOB
from hpcsynapse.job.search_path import tool
from hpcsynapse.schedulers.base import JobStatus, QueueState, Scheduler
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import MACHINE

ID = re.compile(r"([A-Za-z0-9][\w.-]*):([0-9]{1,10}):([0-9]{1,20})", re.ASCII)
_LINE = re.compile(r"(\S+?)(?::([0-9]+)|\s+slots\s*=\s*([0-9]+))?(?:\s+max.slots\s*=\s*[0-9]+)?")
_WORDS = {"WAITING": QueueState.QUEUED, "NO_ANSWER": QueueState.UNKNOWN}
_MOST = 10_000  # lines of a file


class Hosts(Scheduler):
    """Runs jobs on hosts of a list; GPUs are locked while a job uses them, and jobs wait for one another there."""

    name = "hosts"
    job_file = "job.sh"
    template = "hosts/job.sh.j2"
    job_id_variable = f"${{{JOB}//:/-}}"
    owner_variable = f"${JOB}"
    lacks = (
        "queue.partition",
        "queue.account",
        "queue.qos",
        "queue.constraint",
        "queue.reservation",
        "queue.mail_user",
        "queue.requeue",
        "queue.dependency",
        "queue.hint",
        "queue.extra_directives",
        "resources.gpu_type",
    )
    job_variables = (JOB,)
    launchers = ("mpirun", "mpiexec", "horovodrun", "torchrun", "local")
    preferred = ("mpirun", "local")
    tells_launchers = False
    over_ssh = True
    takes_hosts = True
    passes = (JOB, HOSTS, BY_NODE)
    node_rank_variable = NODE

    def complete(self, spec: JobSpec) -> JobSpec:
        """Return the description with the machines of its file behind those that it lists itself."""
        if not spec.queue.hosts_file:
            return spec
        path = Path(spec.workdir or ".", spec.queue.hosts_file).expanduser()
        return spec.with_("queue", hosts=(*spec.queue.hosts, *read_hosts(path)), hosts_file=None)

    def refuse(self, spec: JobSpec) -> None:
        """Refuse what is lacking, and more nodes or ranks than the list has."""
        super().refuse(spec)
        machines = usable(spec)
        if not machines:
            raise SpecError("queue.hosts: no machine is listed; use --host n1 --host n2, or --hosts-file FILE")
        if spec.allocated_nodes > len(machines):
            raise SpecError(
                f"{spec.allocated_nodes} nodes are asked for, but {len(machines)} can be used: {', '.join(machines)}"
            )
        wanted = max(spec.resources.local_size, spec.resources.gpus)
        able = [name for name, slots in machines.items() if slots is None or slots >= wanted]
        if spec.allocated_nodes > len(able):
            raise SpecError(
                f"{spec.allocated_nodes} nodes with {wanted} ranks or GPUs each are asked for, but only "
                f"{', '.join(able) or 'none'} in queue.hosts has so many slots"
            )

    def look_at_nodes(self, spec: JobSpec, runs: Path) -> Iterator[Finding]:
        """Yield what is found on every host of the list: ssh, clock, Python, shared folder, GPUs."""
        from hpcsynapse.schedulers.hosts_look import findings

        yield from findings(spec, runs)

    def submit_command(self, script: Path) -> list[str]:
        """Return the command that starts the script on its first host and prints the id."""
        return _command("start", str(script))

    def parse_job_id(self, stdout: str) -> str:
        """Return the id that `start` printed; raises SchedulerOutputError."""
        text = stdout.strip()
        if not ID.fullmatch(text):
            raise SchedulerOutputError(f"the first host printed no job id: {text!r}", command=["start"], stdout=stdout)
        return text

    def is_job_id(self, text: str) -> bool:
        """Tell whether this is a whole id."""
        return ID.fullmatch(text) is not None

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return the command that asks the jobs' first hosts, all at once."""
        return _command("status", *job_ids)

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read lines of id, state and reason; raises SchedulerOutputError for others."""
        found = {}
        for line in stdout.splitlines():
            job_id, native, reason = [*line.split(" ", 2), "", ""][:3]
            if not ID.fullmatch(job_id):
                raise SchedulerOutputError(f"not a line about a job: {line!r}", command=["status"], stdout=stdout)
            known = QueueState(native) if native in QueueState.__members__ else QueueState.UNKNOWN
            state = _WORDS.get(native, known)
            found[job_id] = JobStatus(state=state, native_state=native, reason=reason)
        return found

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """A job that has ended is simply not listed, so a failure is always one."""
        return False

    def cancel_command(self, job_id: str) -> list[str]:
        """Return the command that ends the job on its first host, and with it on all others."""
        return _command("cancel", job_id)

    def hosts(self, environ: Mapping[str, str]) -> list[str]:
        """Return the hosts that were chosen when the job was started."""
        return environ.get(HOSTS, "").split()


def _command(*arguments: str) -> list[str]:
    return tool("hosts-queue", *arguments)


def usable(spec: JobSpec) -> dict[str, int | None]:
    """Return the machines of a description by name with their slots, without those to be left out."""
    left_out = {one for text in spec.queue.exclude for one in hostlist.expand(text)}
    found: dict[str, int | None] = {}
    for text in spec.queue.hosts:
        match = MACHINE.fullmatch(text)
        if match and match[1] not in left_out:
            found.setdefault(match[1], int(match[2]) if match[2] else None)
    return found


def read_hosts(path: Path) -> list[str]:
    """Return the machines of a file as MPICH (`n1:4`) and Open MPI (`n1 slots=4`) have it; raises SpecError."""
    try:
        lines = path.read_text().splitlines()[:_MOST]
    except (OSError, ValueError) as error:
        raise SpecError(f"queue.hosts_file = {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        match = _LINE.fullmatch(text)
        name = f"{match[1]}:{match[2] or match[3]}" if match and (match[2] or match[3]) else text
        if text and not MACHINE.fullmatch(name):
            raise SpecError(f"{path}, line {number}: {text!r} is no machine; write for example n1, n1:4 or n1 slots=4")
        found += [name] if text else []
    return found
