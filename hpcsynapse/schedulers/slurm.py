"""Slurm: sbatch, squeue, scancel; sacct only where it is there. Manual: https://slurm.schedmd.com/man_index.html."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hpcsynapse.errors import SchedulerOutputError
from hpcsynapse.job import hostlist
from hpcsynapse.schedulers import refusals, sacctmgr, sinfo, srun
from hpcsynapse.schedulers.base import ANYWHERE, Ask, FoundJob, JobStatus, QueueState, Scheduler
from hpcsynapse.spec.job import JobSpec

# squeue(1), JOB STATE CODES.
_BY_STATE = {
    QueueState.QUEUED: "PENDING CONFIGURING REQUEUED REQUEUE_HOLD REQUEUE_FED SPECIAL_EXIT RESV_DEL_HOLD",
    QueueState.RUNNING: "RUNNING COMPLETING SIGNALING STAGE_OUT RESIZING",
    QueueState.SUSPENDED: "SUSPENDED STOPPED",
    QueueState.COMPLETED: "COMPLETED",
    QueueState.CANCELLED: "CANCELLED REVOKED",
    QueueState.FAILED: "BOOT_FAIL DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED TIMEOUT",
}
STATES = {native: state for state, natives in _BY_STATE.items() for native in natives.split()}
_SAID = re.compile(r"\bSubmitted batch job ([0-9]+)\b(?: on cluster ([\w.-]*\w))?")
_PARSABLE = re.compile(r"^([0-9]+)(?:;([\w.-]+))?\s*$", re.MULTILINE)
_ID = re.compile(r"[0-9]+(?:[_+][0-9]+)?")
_CLUSTER = re.compile(r"CLUSTER: ([\w.-]+)")
_ARRAY = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
_SEPARATOR = "\x1f"  # unit separator: cannot occur in a reason or a node list
_TAKEN = "PENDING,CONFIGURING,RUNNING,SUSPENDED,STOPPED,COMPLETING,COMPLETED,TIMEOUT,NODE_FAIL,PREEMPTED"
_MAX_TASKS = 4_000_001  # of an array: the largest MaxArraySize (slurm.conf(5))


class Slurm(Scheduler):
    """Slurm since 20.11."""

    name = "slurm"
    job_file = "job.sh"
    template = "slurm/job.sh.j2"
    job_id_variable = "${SLURM_JOB_ID}"
    # A task of an array is known under the array's number.
    owner_variable = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    # squeue(1), --Format; a job that ends within its GraceTime is COMPLETED or FAILED and not PREEMPTED.
    preempted_command = 'squeue --noheader --jobs="$SLURM_JOB_ID" --Format=PreemptTime'
    query_without = ("SLURM_CLUSTERS",)  # a job id names its cluster where it is not this one
    restart_suffix = ".${SLURM_RESTART_COUNT:-0}"
    # sbatch(1), INPUT ENVIRONMENT VARIABLES: these would come before the lines of a job file.
    defaults: ClassVar[Mapping[str, str]] = {
        "SBATCH_ACCOUNT": "account",
        "SBATCH_PARTITION": "partition",
        "SBATCH_QOS": "qos",
        "SBATCH_RESERVATION": "reservation",
        "SBATCH_CONSTRAINT": "constraint",
    }
    programs = ("sbatch",)
    directive = "#SBATCH "
    own_directives = ("--job-name=", "--output=", "--open-mode=")
    max_tasks = 1000  # MaxArraySize is 1001 unless a site has changed it (slurm.conf(5))
    job_variables = ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    gpus_variable = "SLURM_GPUS_ON_NODE"
    launchers = ("srun", *ANYWHERE)
    preferred = ("srun",)
    hydra_launcher = "slurm"
    has_steps = True
    signals_early = True
    node_rank_variable = "SLURM_NODEID"
    step_hosts = '--nodelist="$SLURM_JOB_NODELIST"'

    def submit_command(self, script: Path) -> list[str]:
        """Return `sbatch --parsable`, which prints `id` or `id;cluster`."""
        return ["sbatch", "--parsable", str(script)]

    def after_options(self, job_id: str) -> list[str]:
        """Return the dependency, which comes before one in the job file (sbatch(1))."""
        return [f"--dependency=afterany:{job_id.partition(';')[0]}"]

    def shared_job_template(self, jobs: str) -> str:
        """Return the template of an array, or of an allocation with several runs."""
        return f"slurm/{jobs}.sh.j2"

    def array_task_id(self, job_id: str, task: int) -> str:
        """Return `12_3` for task 3 of array 12 (sbatch(1), job arrays)."""
        number, separator, cluster = job_id.partition(";")
        return f"{number}_{task}{separator}{cluster}"

    def array_of(self, job_id: str) -> str | None:
        """Return the number before the task's."""
        number, separator, _ = job_id.partition("_")
        return number if separator else None

    def parse_job_id(self, stdout: str) -> str:
        """Return `id` or `id;cluster`, found behind whatever a site or its wrapper of sbatch prints around it.

        The sentence of a wrapper that leaves --parsable out counts before a line that is only a number; several such
        lines say nothing for certain.
        """
        found = _SAID.findall(stdout) or _PARSABLE.findall(stdout)
        if len(set(found)) != 1:
            what = "no job id" if not found else "several numbers that may be the job id"
            raise SchedulerOutputError(f"sbatch printed {what}: {stdout.strip()!r}", command=["sbatch"], stdout=stdout)
        number, cluster = found[0]
        return f"{number};{cluster}" if cluster else str(number)

    def explain_refusal(self, said: str, spec: JobSpec, ask: Ask) -> str:
        """Return the partitions, limits, accounts or features there are."""
        return refusals.explain(said, spec, ask)

    def find_command(self) -> list[str]:
        """Return one squeue that lists the user's jobs with the paths of their job files.

        Not those that FAILED: slurmctld keeps such a record of a job that it refused (Slurm 22.05, seen).
        """
        form = _SEPARATOR.join(("%i", "%o", "%j"))
        return ["squeue", "--array", f"--states={_TAKEN}", f"--user={os.getuid()}", f"--format={form}"]

    def parse_found(self, stdout: str) -> list[FoundJob]:
        """Read squeue's lines; raises SchedulerOutputError where squeue's own heading is missing."""
        return [FoundJob(job_id, script.strip(), name.strip()) for job_id, script, name in _rows(stdout, 3)]

    def owner_id(self, job_id: str) -> str:
        """Return the number: a job is not told its cluster's name in every release."""
        return job_id.partition(";")[0]

    def batches(self, job_ids: Sequence[str]) -> list[list[str]]:
        """Return the jobs of this cluster, and those that a federation has put on others."""
        kinds = [[one for one in job_ids if (";" in one) is other] for other in (False, True)]
        return [kind for kind in kinds if kind]

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return one squeue for all jobs of a batch, finished ones included as long as the controller remembers them.

        Tasks of an array are listed one by one: their short form is cut after 64 characters (squeue(1), --array).
        """
        form = _SEPARATOR.join(("%i", "%T", "%r", "%N"))
        return [
            "squeue",
            *_clusters(job_ids),
            "--array",
            "--states=all",
            f"--jobs={_numbers(job_ids)}",
            f"--format={form}",
        ]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read the lines of squeue or sacct; raises SchedulerOutputError where their own heading is missing."""
        found = {}
        for job_id, native, reason, nodes in _rows(stdout, 4):
            native = native.partition(" ")[0].rstrip("+")  # sacct: `CANCELLED by 1000`
            status = JobStatus(
                state=STATES.get(native, QueueState.UNKNOWN),
                native_state=native,
                nodes=nodes,
                reason="" if reason == "None" else reason,
            )
            number, separator, cluster = job_id.partition(";")
            for one in expand_array(number):
                if not _ID.fullmatch(one):
                    raise _not_understood(stdout)
                found[one + separator + cluster] = status
        return found

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """Squeue fails with this message when it knows none of the jobs."""
        return code != 0 and "Invalid job id" in stderr

    def cancel_command(self, job_id: str) -> list[str]:
        """Return scancel."""
        return ["scancel", *_clusters([job_id]), _numbers([job_id])]

    def requeue_command(self, job_id: str) -> list[str]:
        """Return scontrol, which an owner may ask this too (scontrol(1), requeue)."""
        return ["scontrol", *_clusters([job_id]), "requeue", _numbers([job_id])]

    def probe_host_command(self, job_id: str, host: str) -> list[str]:
        """Return a step of one process beside whatever else runs there."""
        return srun.one_task(host, ["true"])

    def check_command(self, script: Path) -> list[str]:
        """Return `sbatch --test-only`, which answers on stderr."""
        return ["sbatch", "--test-only", str(script)]

    def history_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return sacct in the form that `parse_status` reads."""
        return [
            "sacct",
            *_clusters(job_ids),
            "--parsable2",
            f"--delimiter={_SEPARATOR}",
            "--allocations",
            f"--jobs={_numbers(job_ids)}",
            "--format=JobID,State,Reason,NodeList",
        ]

    def probe_command(self) -> list[str]:
        """Return sinfo, which fails without a controller."""
        return ["sinfo", "--noheader", "--format=%P"]

    def configured(self) -> bool:
        """Tell whether slurm.conf is named or in its usual place."""
        return bool(os.environ.get("SLURM_CONF")) or Path("/etc/slurm/slurm.conf").exists()

    def describe_site(self, ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return what sinfo says of a partition, the default one without a name, and the cluster's name."""
        return sinfo.describe_site(ask, partition)

    def choices(self, ask: Ask) -> dict[str, list[str]]:
        """Return the partitions that sinfo lists, and the user's accounts and qualities of service."""
        return {"partition": sinfo.partitions(sinfo.listed(ask)[0]), **sacctmgr.choices(ask)}

    def trial_command(self, options: Mapping[str, str]) -> list[str]:
        """Return `sbatch --test-only` for a job of one minute."""
        given = [f"--{name}={value}" for name, value in options.items()]
        return ["sbatch", "--test-only", "--nodes=1", "--time=1", "--output=/dev/null", *given, "--wrap=true"]

    def hosts(self, environ: Mapping[str, str]) -> list[str]:
        """Return the expanded node list (sbatch(1), output environment variables)."""
        names = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST")
        return hostlist.expand(names or "")

    def subset(self, environ: Mapping[str, str], hosts: Sequence[str], tasks: int) -> dict[str, str]:
        """Return the variables that mpirun, hydra and the job files read (sbatch(1), output environment variables)."""
        names, count, total = ",".join(hosts), str(len(hosts)), str(tasks * len(hosts))
        return {
            **environ,
            "SLURM_JOB_NODELIST": names,
            "SLURM_NODELIST": names,
            "SLURM_NNODES": count,
            "SLURM_JOB_NUM_NODES": count,
            "SLURM_NTASKS": total,
            "SLURM_NPROCS": total,
            "SLURM_NTASKS_PER_NODE": str(tasks),
            "SLURM_TASKS_PER_NODE": f"{tasks}(x{count})",
        }


def _clusters(job_ids: Sequence[str]) -> list[str]:
    """Return the option that names the clusters of a federation where these jobs are (squeue(1), --clusters)."""
    names = dict.fromkeys(one.partition(";")[2] for one in job_ids if ";" in one)
    return [f"--clusters={','.join(names)}"] if names else []


def _numbers(job_ids: Sequence[str]) -> str:
    return ",".join(one.partition(";")[0] for one in job_ids)


def _rows(stdout: str, columns: int) -> list[list[str]]:
    """Return the fields of every line below the heading; ids of other clusters carry their cluster's name.

    Raises SchedulerOutputError where there is no heading, or a row is cut: what was printed is not the answer of squeue
    or sacct, and a job that is missing there need not be gone.
    """
    rows, heading, cluster, parts = list[list[str]](), False, "", list[str]()
    for line in stdout.split("\n"):
        if match := _CLUSTER.fullmatch(line.strip()):
            cluster = f";{match[1]}"
        parts = [part.strip() for part in line.split(_SEPARATOR)]
        if len(parts) == columns and parts[0].upper() == "JOBID":
            heading = True
        elif len(parts) == columns and heading:
            rows.append([parts[0] + cluster, *parts[1:]])
        elif heading and len(parts) > 1:
            raise _not_understood(stdout)
    if not heading or (stdout[-1:] != "\n" and len(parts) != columns):
        raise _not_understood(stdout)
    return rows


def _not_understood(stdout: str) -> SchedulerOutputError:
    said = " ".join(stdout.split())[:200] or "nothing"
    return SchedulerOutputError(f"squeue's answer is not understood: {said!r}", command=["squeue"], stdout=stdout)


def expand_array(job_id: str) -> list[str]:
    """Return the task ids of a pending array as squeue abbreviates it; any other id alone.

    `12_[0-10:2,13%3]` has ranges, steps and a limit (squeue(1), `%i`); what no array can hold is left as it is.
    """
    match = _ARRAY.fullmatch(job_id)
    if not match:
        return [job_id]
    tasks: list[str] = []
    for item in match[2].split(","):
        span, _, step = item.partition(":")
        first, _, last = span.partition("-")
        words = [word for word in (first, last or first, step or "1") if word.isdecimal() and len(word) < 9]
        if len(words) < 3 or int(words[1]) >= _MAX_TASKS or not int(words[2]):
            return [job_id]
        tasks.extend(f"{match[1]}_{task}" for task in range(int(words[0]), int(words[1]) + 1, int(words[2])))
    return tasks
