"""Slurm: sbatch, squeue, scancel; sacct only where it is there. Manual: https://slurm.schedmd.com/man_index.html."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hpcsynapse.errors import SchedulerOutputError
from hpcsynapse.schedulers.base import JobStatus, Scheduler

# squeue(1), JOB STATE CODES.
STATES = {
    "PENDING": "QUEUED", "CONFIGURING": "QUEUED", "REQUEUED": "QUEUED", "REQUEUE_HOLD": "QUEUED",
    "REQUEUE_FED": "QUEUED", "SPECIAL_EXIT": "QUEUED", "RESV_DEL_HOLD": "QUEUED",
    "RUNNING": "RUNNING", "COMPLETING": "RUNNING", "SIGNALING": "RUNNING", "STAGE_OUT": "RUNNING",
    "STOPPED": "RUNNING", "SUSPENDED": "RUNNING", "RESIZING": "RUNNING",
    "COMPLETED": "COMPLETED", "CANCELLED": "CANCELLED", "REVOKED": "CANCELLED",
    "BOOT_FAIL": "FAILED", "DEADLINE": "FAILED", "FAILED": "FAILED", "NODE_FAIL": "FAILED",
    "OUT_OF_MEMORY": "FAILED", "PREEMPTED": "FAILED", "TIMEOUT": "FAILED",
}  # fmt: skip
_SUBMITTED = re.compile(r"^(\d+)(;[\w.-]+)?$", re.MULTILINE)
_ARRAY = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
_SEPARATOR = "\x1f"  # unit separator: cannot occur in a reason or a node list


class Slurm(Scheduler):
    """Slurm since 20.11."""

    name = "slurm"
    job_file = "job.sh"
    template = "slurm/job.sh.j2"
    job_id_variable = "${SLURM_JOB_ID}"
    restart_suffix = ".${SLURM_RESTART_COUNT:-0}"

    def submit_command(self, script: Path) -> list[str]:
        """Return `sbatch --parsable`, which prints `id` or `id;cluster`."""
        return ["sbatch", "--parsable", str(script)]

    def after_options(self, job_id: str) -> list[str]:
        """Return the dependency, which comes before one in the job file (sbatch(1))."""
        return [f"--dependency=afterany:{job_id}"]

    def together(self, jobs: str) -> str:
        """Return the template of an array, or of an allocation with several runs."""
        return f"slurm/{jobs}.sh.j2"

    def array_task_id(self, job_id: str, task: int) -> str:
        """Return `12_3` for task 3 of array 12 (sbatch(1), job arrays)."""
        return f"{job_id}_{task}"

    def parse_job_id(self, stdout: str) -> str:
        """Return the number, found behind whatever banner a site prints."""
        found = _SUBMITTED.findall(stdout)
        if not found:
            raise SchedulerOutputError(f"sbatch printed no job id: {stdout.strip()!r}", command=["sbatch"],
                                       stdout=stdout)  # fmt: skip
        return str(found[-1][0])

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return one squeue for all jobs, finished ones included as long as the controller remembers them."""
        form = _SEPARATOR.join(("%i", "%T", "%r", "%N"))
        return ["squeue", "--noheader", "--states=all", f"--jobs={','.join(job_ids)}", f"--format={form}"]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read squeue's lines; ids of pending arrays (`12_[0-10:2%3]`) are expanded."""
        found = {}
        for line in stdout.splitlines():
            parts = [part.strip() for part in line.split(_SEPARATOR)]
            if len(parts) != 4:
                continue  # a banner
            job_id, native, reason, nodes = parts
            native = native.partition(" ")[0].rstrip("+")  # sacct: `CANCELLED by 1000`
            status = JobStatus(
                state=STATES.get(native, "UNKNOWN"), native_state=native, nodes=nodes,
                reason="" if reason == "None" else reason,
            )  # fmt: skip
            for one in expand_array(job_id):
                found[one] = status
        return found

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """Squeue fails with this message when it knows none of the jobs."""
        return code != 0 and "Invalid job id" in stderr

    def cancel_command(self, job_id: str) -> list[str]:
        """Return scancel."""
        return ["scancel", job_id]

    def check_command(self, script: Path) -> list[str]:
        """Return `sbatch --test-only`, which answers on stderr."""
        return ["sbatch", "--test-only", str(script)]

    def history_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return sacct in the form that `parse_status` reads."""
        return ["sacct", "--noheader", "--parsable2", f"--delimiter={_SEPARATOR}", "--allocations",
                f"--jobs={','.join(job_ids)}", "--format=JobID,State,Reason,NodeList"]  # fmt: skip


def expand_array(job_id: str) -> list[str]:
    """Return the task ids of a pending array as squeue abbreviates it; any other id alone.

    `12_[0-10:2,13%3]` has ranges, steps and a limit (squeue(1), `%i`).
    """
    match = _ARRAY.fullmatch(job_id)
    if not match:
        return [job_id]
    tasks: list[str] = []
    for item in match[2].split(","):
        span, _, step = item.partition(":")
        first, _, last = span.partition("-")
        tasks.extend(f"{match[1]}_{task}" for task in range(int(first), int(last or first) + 1, int(step or 1)))
    return tasks
