"""What a queue system is to hpcsynapse: argv out, text in. Adapters run nothing themselves."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hpcsynapse.errors import SpecError
from hpcsynapse.findings import Finding
from hpcsynapse.spec.job import JobSpec

Ask = Callable[[Sequence[str]], str]  # runs a command and returns what it prints; raises CommandError


class QueueState(StrEnum):
    """What a queue says of a job, in one set of words for all queues."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job as its queue sees it."""

    state: QueueState
    native_state: str
    reason: str = ""
    nodes: str = ""
    exit_code: int | None = None


class FoundJob(NamedTuple):
    """One of the user's jobs as its queue lists it: id, path of the job file, name."""

    job_id: str
    script: str
    name: str


# A failure of the way to the queue, which says nothing of whether the job arrived.
_UNCLEAR = re.compile(
    r"timed? ?out|contact|connect|communicat|transport|unreachable|try again|temporar|did not answer|zero bytes|"
    r"interrupted|broken pipe|reset by peer|not responding|receiv|protocol",
    re.IGNORECASE,
)


def mail_letters(spec: JobSpec, letters: Mapping[str, str], none: str) -> str:
    """Return a queue's letters for the events that send mail; raises SpecError for one that it does not know."""
    if not spec.queue.mail_user:
        return none
    events = (spec.queue.mail_type or "END,FAIL").upper().split(",")
    if unknown := [event for event in events if event not in (*letters, "ALL", "NONE")]:
        raise SpecError(
            f"queue.mail_type = {spec.queue.mail_type!r}: {', '.join(unknown)} has no counterpart under "
            f"{spec.queue.scheduler}; there are {', '.join(('ALL', *letters, 'NONE'))}"
        )
    chosen = letters if "ALL" in events else [event for event in events if event != "NONE"]
    return "".join(dict.fromkeys(letters[event] for event in chosen)) or none


# Set by a packed job for one of its runs; named as what `hosts` sets in its jobs, so that no other job gets it.
SUBSET = "HPCSYNAPSE_HOSTS_SUBSET"
# Launchers that need nothing of the queue but the hosts of a job.
ANYWHERE = ("mpirun", "mpiexec", "horovodrun", "torchrun", "greasy")


class Scheduler(ABC):
    """One queue system. Adding one: a class file, a template folder, a row in `spec.names.QUEUES`."""

    name: ClassVar[str]
    job_file: ClassVar[str]
    template: ClassVar[str]
    job_id_variable: ClassVar[str]  # shell expression for the job's id inside the job
    restart_suffix: ClassVar[str] = ""  # shell text that tells one start of a job from the next
    owner_variable: ClassVar[str] = ""  # shell expression for the id by which a job script claims its run
    preempted_command: ClassVar[str] = ""  # shell command inside a job: prints when it was preempted, digits, or none
    defaults: ClassVar[Mapping[str, str]] = {}  # variable of a user's environment -> setting of [queue]
    query_without: ClassVar[tuple[str, ...]] = ()  # variables that would send questions about jobs elsewhere
    lacks: ClassVar[tuple[str, ...]] = ()  # settings (section.name) that have no counterpart in this queue
    programs: ClassVar[tuple[str, ...]] = ()  # commands that are on the PATH where this queue is
    submit_words: ClassVar[int] = 1  # words of its submit command that come before any option
    reads_stdin: ClassVar[bool] = False  # its submit command takes the job file from standard input
    one_machine: ClassVar[bool] = False  # its jobs run on the machine where they are submitted
    directive: ClassVar[str] = ""  # how a line of a job file begins that asks the queue for something
    own_directives: ClassVar[tuple[str, ...]] = ()  # beginnings of those, behind it, that each job has of its own
    max_tasks: ClassVar[int] = 1000  # of a job array
    job_variables: ClassVar[tuple[str, ...]] = ()  # any of them is set in its jobs
    record_lag: ClassVar[float] = 0.0  # seconds in which a job that has ended may be neither listed nor on record
    gpus_variable: ClassVar[str] = ""  # variable that counts the GPUs granted on a node
    # Launchers that work in its jobs, and those that `auto` stands for: the first that is installed, else the last.
    launchers: ClassVar[tuple[str, ...]] = ANYWHERE
    preferred: ClassVar[tuple[str, ...]] = ("mpirun",)
    tells_launchers: ClassVar[bool] = True  # mpirun learns the job's hosts from it, and passes the environment on
    slot_per_rank: ClassVar[bool] = True  # False: it is asked for one task a node, however many ranks start there
    hydra_launcher: ClassVar[str] = "ssh"  # how MPICH's hydra reaches other nodes (mpiexec -launcher)
    over_ssh: ClassVar[bool] = False  # processes are started on its hosts by ssh alone, without any help of a queue
    passes: ClassVar[tuple[str, ...]] = ()  # variables of its jobs that ranks on all nodes need
    takes_hosts: ClassVar[bool] = False  # it runs jobs on the machines that a description lists
    has_steps: ClassVar[bool] = False  # srun starts processes on any nodes of a job
    node_rank_variable: ClassVar[str] = ""  # numbers the nodes of such a step
    # Beside SIGTERM and SIGINT, what it sends to all processes of a job that shall end.
    end_signals: ClassVar[tuple[str, ...]] = ()
    signals_early: ClassVar[bool] = False  # it sends a signal before the time limit where a job file asks for one
    step_hosts: ClassVar[str] = ""  # words, as shell text, that keep such a step to the nodes of `subset`

    def refuse(self, spec: JobSpec) -> None:
        """Raise SpecError for what is asked of this queue and has no counterpart there."""
        for name in self.lacks:
            section, _, setting = name.partition(".")
            if getattr(getattr(spec, section), setting) not in (None, (), ""):
                raise SpecError(f"{name} has no counterpart under {self.name}; leave it out")
        if spec.queue.exclude_failed and "queue.exclude" in self.lacks:
            raise SpecError(f"queue.exclude_failed: {self.name} cannot be told to leave out hosts; leave it out")
        if spec.survive.chain_until_done and "queue.signal" in self.lacks:
            raise SpecError(f"survive.chain_until_done needs a signal before the time limit, which {self.name} lacks")
        if spec.survive.spares and self.one_machine:
            raise SpecError("survive.spares: this machine has no other nodes; leave it out")
        if (spec.queue.hosts or spec.queue.hosts_file) and not self.takes_hosts:
            raise SpecError(f"queue.hosts is a list for --scheduler hosts, but queue.scheduler = {self.name!r}")
        asked = re.split(r"[:@]", spec.queue.signal or "")
        if taken := [name for name in self.end_signals if {name, f"SIG{name}"} & {*asked}]:
            raise SpecError(
                f"queue.signal = {spec.queue.signal!r}: by SIG{taken[0]} {self.name} tells jobs to end; use another, "
                "such as USR1@120"
            )

    def complete(self, spec: JobSpec) -> JobSpec:
        """Return the description with what this queue reads from files, at the moment of submission; SpecError."""
        return spec

    def look_at_nodes(self, spec: JobSpec, runs: Path) -> Iterator[Finding]:
        """Yield what is found on the nodes themselves, for queues that anybody may ask beforehand."""
        yield from ()

    def features(self, spec: JobSpec) -> list[str]:
        """Return the properties that every node must have, for queues that ask for nodes by feature."""
        return [feature for feature in (spec.resources.gpu_type, spec.queue.constraint) if feature]

    def notification(self, spec: JobSpec) -> str:
        """Return the queue's own word for the events that send mail, where it has one."""
        return ""

    def request(self, spec: JobSpec) -> dict[str, Any]:
        """Return what this queue's own template needs beside the names that all templates see; raises SpecError."""
        return {}

    @abstractmethod
    def submit_command(self, script: Path) -> list[str]:
        """Return the argv that hands a job file to the queue and prints its id."""

    def submit_options(self, dependency: str | None) -> list[str]:
        """Return the words between command and job file that say what no line of the job file can say here."""
        return []

    def after_options(self, job_id: str) -> list[str]:
        """Return the words there that make a job wait until another has ended, however it ends; raises SpecError."""
        raise SpecError(f"{self.name} cannot let one job wait for another; say --no-chain")

    def shared_job_template(self, jobs: str) -> str:
        """Return the template of a job file for several runs, an `array` or `packed`; raises SpecError without one."""
        raise SpecError(f"{self.name} has no job file for a study as --jobs {jobs}; say --jobs separate")

    def array_of(self, job_id: str) -> str | None:
        """Return the array that a job is a task of, or None for any other job."""
        return None

    def array_task_id(self, job_id: str, task: int) -> str:
        """Return the id of one task of a job array; for queues that have arrays."""
        raise NotImplementedError(self.name)

    @abstractmethod
    def parse_job_id(self, stdout: str) -> str:
        """Return the job id in what the submit command printed; raises SchedulerOutputError."""

    def maybe_taken(self, message: str) -> bool:
        """Tell whether a submit command that failed with this message may have queued the job all the same."""
        return bool(_UNCLEAR.search(message))

    def explain_refusal(self, said: str, spec: JobSpec, ask: Ask) -> str:
        """Return what this queue would take instead of what it has refused with these words; nothing where unknown."""
        return ""

    def find_command(self) -> list[str] | None:
        """Return the argv that lists the user's jobs with their job files, where the queue can say that."""
        return None

    def parse_found(self, stdout: str) -> list[FoundJob]:
        """Return the jobs that `find_command` printed; raises SchedulerOutputError."""
        raise NotImplementedError(self.name)

    def owner_id(self, job_id: str) -> str:
        """Return the id by which the script of this job claims its run, see `owner_variable`."""
        return job_id

    def is_job_id(self, text: str) -> bool:
        """Tell whether a claimed run's owner can be asked for and cancelled under this text."""
        return bool(re.fullmatch(r"[\w.]+", text))

    def batches(self, job_ids: Sequence[str]) -> list[list[str]]:
        """Return the jobs that one status command each can ask for."""
        return [list(job_ids)]

    @abstractmethod
    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return one argv that asks for all of these jobs."""

    @abstractmethod
    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Return the jobs the queue still knows.

        Raises SchedulerOutputError for what is not the command's own answer: a job that is missing there need not be
        gone.
        """

    @abstractmethod
    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """Tell whether a failed status command only means that the queue has forgotten the jobs."""

    @abstractmethod
    def cancel_command(self, job_id: str) -> list[str]:
        """Return the argv that asks the queue to end a job."""

    def requeue_command(self, job_id: str) -> list[str] | None:
        """Return the argv by which a job puts itself back into the queue, where there is one."""
        return None

    def probe_host_command(self, job_id: str, host: str) -> list[str] | None:
        """Return the argv that succeeds where a host of this job can start a process, where that can be asked."""
        return None

    def check_command(self, script: Path) -> list[str] | None:
        """Return the argv that validates a job file without submitting it, where the queue has one."""
        return None

    def history_command(self, job_ids: Sequence[str]) -> list[str] | None:
        """Return the argv that asks accounting about jobs the queue has forgotten, where there may be one."""
        return None

    def job_file_problems(self, text: str) -> list[Finding]:
        """Return what is wrong with a job file, for queues that cannot be asked before it is submitted."""
        return []

    def probe_command(self) -> list[str] | None:
        """Return the argv that succeeds where the queue answers, if that takes more than to find its programs."""
        return None

    def configured(self) -> bool:
        """Tell whether this machine is set up for the queue, so that its silence is a fault and not its absence."""
        return False

    def describe_site(self, ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return the tables of a site file that the queue suggests, and what such a file cannot say.

        Raises CommandError when the queue does not say what is needed, SiteError for a partition that it has not.
        """
        return {"site": {"name": self.name}, "queue": {"scheduler": self.name}}, []

    def choices(self, ask: Ask) -> dict[str, list[str]]:
        """Return what a user may choose from, by setting of [queue]: partitions, accounts, qualities of service."""
        return {}

    def trial_command(self, options: Mapping[str, str]) -> list[str] | None:
        """Return the argv that asks whether a small job with these options would be taken, where that can be asked."""
        return None

    def hosts(self, environ: Mapping[str, str]) -> list[str]:
        """Return the hosts of the job that has this environment, in its order, each once.

        None where it is not told; raises PlacementError where the queue should have told more.
        """
        return []

    def subset(self, environ: Mapping[str, str], hosts: Sequence[str], tasks: int) -> dict[str, str]:
        """Return a job's environment as if it had these hosts only, with so many tasks on each; for packed jobs."""
        return {**environ, SUBSET: " ".join(hosts)}

    def assigned(self, environ: Mapping[str, str]) -> list[str]:
        """Return the hosts that may be used: those of `subset` in a packed job, else all; raises PlacementError."""
        return environ[SUBSET].split() if environ.get(SUBSET) else self.hosts(environ)
