"""What a queue system is to hpcsynapse: argv out, text in. Adapters run nothing themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hpcsynapse.errors import SpecError
from hpcsynapse.spec import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job as its queue sees it: one of QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED, UNKNOWN."""

    state: str
    native_state: str
    reason: str = ""
    nodes: str = ""
    exit_code: int | None = None


class Scheduler(ABC):
    """One queue system. Adding one: a class file, a template folder, a row in `schedulers.SCHEDULERS`."""

    name: ClassVar[str]
    job_file: ClassVar[str]
    template: ClassVar[str]
    job_id_variable: ClassVar[str]  # shell expression for the job's id inside the job
    restart_suffix: ClassVar[str] = ""  # shell text that tells one start of a job from the next
    lacks: ClassVar[tuple[str, ...]] = ()  # settings (section.name) that have no counterpart in this queue

    def refuse(self, spec: JobSpec) -> None:
        """Raise SpecError for what is asked of this queue and has no counterpart there."""
        for name in self.lacks:
            section, _, setting = name.partition(".")
            if getattr(getattr(spec, section), setting) not in (None, (), ""):
                raise SpecError(f"{name} has no counterpart under {self.name}; leave it out")

    def features(self, spec: JobSpec) -> list[str]:
        """Return the properties that every node must have, for queues that ask for nodes by feature."""
        return [feature for feature in (spec.resources.gpu_type, spec.queue.constraint) if feature]

    def notification(self, spec: JobSpec) -> str:
        """Return the queue's own word for the events that send mail, where it has one."""
        return ""

    @abstractmethod
    def submit_command(self, script: Path) -> list[str]:
        """Return the argv that hands a job file to the queue and prints its id."""

    def submit_options(self, dependency: str | None) -> list[str]:
        """Return the words between command and job file that say what no line of the job file can say here."""
        return []

    def after_options(self, job_id: str) -> list[str]:
        """Return the words there that make a job wait until another has ended, however it ends; raises SpecError."""
        raise SpecError(f"{self.name} cannot let one job wait for another; say --no-chain")

    def together(self, jobs: str) -> str:
        """Return the template of a job file for several runs, an `array` or `packed`; raises SpecError without one."""
        raise SpecError(f"{self.name} has no job file for a study as --jobs {jobs}; say --jobs separate")

    def array_task_id(self, job_id: str, task: int) -> str:
        """Return the id of one task of a job array; for queues that have arrays."""
        raise NotImplementedError(self.name)

    @abstractmethod
    def parse_job_id(self, stdout: str) -> str:
        """Return the job id in what the submit command printed; raises SchedulerOutputError."""

    @abstractmethod
    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return one argv that asks for all of these jobs."""

    @abstractmethod
    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Return the jobs the queue still knows; raises SchedulerOutputError."""

    @abstractmethod
    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """Tell whether a failed status command only means that the queue has forgotten the jobs."""

    @abstractmethod
    def cancel_command(self, job_id: str) -> list[str]:
        """Return the argv that asks the queue to end a job."""

    def check_command(self, script: Path) -> list[str] | None:
        """Return the argv that validates a job file without submitting it, where the queue has one."""
        return None

    def history_command(self, job_ids: Sequence[str]) -> list[str] | None:
        """Return the argv that asks accounting about jobs the queue has forgotten, where there may be one."""
        return None
