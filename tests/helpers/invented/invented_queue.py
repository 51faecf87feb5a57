"""The smallest adapter there can be, of a queue that nobody has: it reads job files from standard input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcsynapse.errors import SchedulerOutputError
from hpcsynapse.schedulers.base import JobStatus, QueueState, Scheduler
from hpcsynapse.spec.names import Queue

ROW = Queue("invented_queue:Invented", "a queue for tests", ("INVQ_",))
_STATES = {"waits": QueueState.QUEUED, "runs": QueueState.RUNNING, "went": QueueState.COMPLETED}
# What its commands print, as the contract of all adapters is tried with.
SUBMITTED = [("taken as q7\n", "q7"), ("Hello!\ntaken as q12\n", "q12")]
STATUS = (
    "invq\nq1 waits\nq2 runs\nq3 went\nq4 dreams\n",
    {"q1": "QUEUED", "q2": "RUNNING", "q3": "COMPLETED", "q4": "UNKNOWN"},
)


class Invented(Scheduler):
    """Jobs run on this machine, at once."""

    name = "invented"
    job_file = "job.iq"
    template = "invented/job.iq.j2"
    job_id_variable = "${INVQ_ID}"
    job_variables = ("INVQ_ID",)
    programs = ("iqsub", "iqstat")
    reads_stdin = True
    one_machine = True
    launchers = ("local",)
    preferred = ("local",)

    def submit_command(self, script: Path) -> list[str]:
        return ["iqsub"]

    def parse_job_id(self, stdout: str) -> str:
        found = [line.split()[-1] for line in stdout.splitlines() if line.startswith("taken as q")]
        if not found:
            raise SchedulerOutputError(f"iqsub printed no job id: {stdout!r}", command=["iqsub"], stdout=stdout)
        return found[-1]

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        return ["iqstat", *job_ids]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        head, *lines = stdout.split("\n")
        if head != "invq":
            raise SchedulerOutputError(f"iqstat is not understood: {stdout!r}", command=["iqstat"], stdout=stdout)
        rows = [line.split() for line in lines if len(line.split()) == 2]
        return {job: JobStatus(state=_STATES.get(word, QueueState.UNKNOWN), native_state=word) for job, word in rows}

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        return False

    def cancel_command(self, job_id: str) -> list[str]:
        return ["iqdel", job_id]
