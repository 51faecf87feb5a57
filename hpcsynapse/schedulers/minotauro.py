"""BSC's dialect on top of Slurm (MinoTauro, CNAG, Altamira): mnsubmit, mnq, mncancel.

No manual of mnq's output is public; it is assumed to be squeue's: a line of column names with JOBID and STATE (or ST),
then one line a job. Only what that needs is read, and a job that is not listed counts as forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcsynapse.errors import SchedulerOutputError, SpecError
from hpcsynapse.findings import Finding
from hpcsynapse.jobfiles import reader
from hpcsynapse.schedulers import slurm
from hpcsynapse.schedulers.base import Ask, JobStatus, QueueState, Scheduler
from hpcsynapse.spec.job import JobSpec

_SUBMITTED = re.compile(r"Submitted batch job (\d+)")
# squeue(1), JOB STATE CODES: the short forms.
_SHORT = {
    "PD": "PENDING", "CF": "CONFIGURING", "R": "RUNNING", "CG": "COMPLETING", "S": "SUSPENDED", "ST": "STOPPED",
    "CD": "COMPLETED", "CA": "CANCELLED", "F": "FAILED", "NF": "NODE_FAIL", "BF": "BOOT_FAIL", "DL": "DEADLINE",
    "OOM": "OUT_OF_MEMORY", "PR": "PREEMPTED", "TO": "TIMEOUT", "RQ": "REQUEUED", "RH": "REQUEUE_HOLD",
    "SE": "SPECIAL_EXIT", "SI": "SIGNALING", "SO": "STAGE_OUT", "RS": "RESIZING", "RV": "REVOKED",
    "RD": "RESV_DEL_HOLD", "RF": "REQUEUE_FED",
}  # fmt: skip  # a table


class MinoTauro(Scheduler):
    """The dialect of the MinoTauro user guide; inside a job the variables are Slurm's."""

    name = "minotauro"
    job_file = "job.cmd"
    template = "minotauro/job.cmd.j2"
    job_id_variable = "${SLURM_JOB_ID}"
    restart_suffix = ".${SLURM_RESTART_COUNT:-0}"
    programs = ("mnsubmit", "mnq")
    launchers = slurm.Slurm.launchers
    preferred = slurm.Slurm.preferred
    hydra_launcher = slurm.Slurm.hydra_launcher
    slot_per_rank = False
    has_steps = True
    signals_early = True
    node_rank_variable = slurm.Slurm.node_rank_variable
    lacks = (
        "queue.qos",
        "queue.mail_user",
        "queue.mail_type",
        "queue.comment",
        "queue.signal",
        "queue.exclude",
        "queue.hint",
    )

    def refuse(self, spec: JobSpec) -> None:
        """Refuse what the dialect lacks, and a memory request that the site does not say to leave out."""
        super().refuse(spec)
        if spec.resources.mem is not None and spec.site.accept_mem:
            raise SpecError("resources.mem has no counterpart under minotauro, where memory follows the cores")

    def submit_command(self, script: Path) -> list[str]:
        """Return mnsubmit."""
        return ["mnsubmit", str(script)]

    def submit_options(self, dependency: str | None) -> list[str]:
        """Return `-dep afterok:ID:ID`, which no directive can say."""
        return ["-dep", dependency] if dependency else []

    def after_options(self, job_id: str) -> list[str]:
        """Return the same for one job, however it ends."""
        return ["-dep", f"afterany:{job_id}"]

    def parse_job_id(self, stdout: str) -> str:
        """Return the number, found behind whatever banner a site prints."""
        found = _SUBMITTED.findall(stdout)
        if not found:
            raise SchedulerOutputError(
                f"mnsubmit printed no job id: {stdout.strip()!r}", command=["mnsubmit"], stdout=stdout
            )
        return str(found[-1])

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return mnq, which lists all of one's jobs and is not known to take ids."""
        return ["mnq"]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read the columns named JOBID and STATE or ST, as the heading places them; raises SchedulerOutputError."""
        found: dict[str, JobStatus] = {}
        columns: list[str] = []
        for line in stdout.splitlines():
            words = line.split()
            if "JOBID" in words:
                columns = words
            elif columns and len(words) >= len(columns):
                job_id, native = words[columns.index("JOBID")], _state(columns, words)
                if native and re.fullmatch(r"\d+(_\d+)?", job_id):
                    known = slurm.STATES.get(native, QueueState.UNKNOWN)
                    found[job_id] = JobStatus(state=known, native_state=native)
        if not columns and stdout.strip():
            said = " ".join(stdout.split())[:200]
            raise SchedulerOutputError(f"mnq's answer is not understood: {said!r}", command=["mnq"], stdout=stdout)
        return found

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """A finished job is simply not listed, so a failure is always one."""
        return False

    def cancel_command(self, job_id: str) -> list[str]:
        """Return mncancel."""
        return ["mncancel", job_id]

    def job_file_problems(self, text: str) -> list[Finding]:
        """Return what the dialect's rules say: no command of it validates a file."""
        return [Finding("error", "job file", str(one)) for one in reader.read(text.encode(), self.name).errors]

    def describe_site(self, ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return that memory follows the cores; no command of the dialect tells more."""
        return {"site": {"name": "BSC", "accept_mem": False}, "queue": {"scheduler": self.name}}, []


def _state(columns: list[str], words: list[str]) -> str:
    """Return the long form of a line's state; empty when the heading names no such column.

    A blank in a job's name shifts the columns behind it; then the only word that is a state is meant.
    """
    name = next((name for name in ("STATE", "ST") if name in columns), "")
    if not name:
        return ""
    native = words[columns.index(name)]
    if len(words) > len(columns):
        native = next((word for word in words[1:] if word in slurm.STATES or word in _SHORT), native)
    return _SHORT.get(native, native)
