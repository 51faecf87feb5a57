"""Flux: flux batch, flux jobs, flux cancel. Manual pages: flux-batch(1), flux-jobs(1), flux-environment(7).

A batch script runs in an instance of its own on the job's nodes. Memory, mail, arrays and requeueing are not Flux's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcsynapse.errors import PlacementError, SchedulerOutputError, SpecError
from hpcsynapse.job import hostlist
from hpcsynapse.schedulers.base import Ask, JobStatus, QueueState, Scheduler
from hpcsynapse.spec.job import JobSpec

# The first letter of an id is f, or a florin sign, which a locale without it may have spoilt.
_ID = re.compile(r"(?:[f\u0192]|\ufffd{1,2})([1-9A-HJ-NP-Za-km-z]{1,20})")
_STATES = {
    "DEPEND": QueueState.QUEUED,
    "PRIORITY": QueueState.QUEUED,
    "SCHED": QueueState.QUEUED,
    "RUN": QueueState.RUNNING,
    "CLEANUP": QueueState.RUNNING,
    "COMPLETED": QueueState.COMPLETED,
    "FAILED": QueueState.FAILED,
    "TIMEOUT": QueueState.FAILED,
    "CANCELED": QueueState.CANCELLED,
}
_NATIVE = {"CANCELED": "CANCELLED"}  # one L, where other queues write two
HOSTS = "HPCSYNAPSE_JOB_HOSTS"  # set by the job file: Flux tells the hosts by a command alone


class Flux(Scheduler):
    """Flux since 0.40, one slot for each node."""

    name = "flux"
    job_file = "job.flux.sh"
    template = "flux/job.sh.j2"
    job_id_variable = "${FLUX_ENCLOSING_ID}"
    lacks = (
        "queue.qos",
        "queue.reservation",
        "queue.mail_user",
        "queue.mail_type",
        "queue.comment",
        "queue.requeue",
        "queue.hint",
        "resources.mem",
    )
    programs = ("flux",)
    submit_words = 2
    directive = "#flux: "
    own_directives = ("--job-name=", "--output=")
    job_variables = ("FLUX_ENCLOSING_ID",)
    preferred = ("mpirun", "mpiexec")
    tells_launchers = False
    hydra_launcher = "rsh"
    end_signals = ("HUP", "ALRM")  # the second at the time limit; the first follows SIGTERM at once

    def request(self, spec: JobSpec) -> dict[str, Any]:
        """Return cores of a node, what nodes must be, and dependencies; raises SpecError for what cannot be said."""
        hosts = [one for text in spec.queue.exclude for one in hostlist.expand(text)]
        wanted = [*self.features(spec), *(f"-host:{host}" for host in hosts)]
        return {
            "requires": " and ".join(wanted),
            "dependencies": _dependencies(spec.queue.dependency),
            "hosts_variable": HOSTS,
        }

    def submit_command(self, script: Path) -> list[str]:
        """Return flux batch, which prints the id."""
        return ["flux", "batch", str(script)]

    def after_options(self, job_id: str) -> list[str]:
        """Return the dependency on another job's end."""
        return [f"--dependency=afterany:{job_id}"]

    def shared_job_template(self, jobs: str) -> str:
        """Return the template of a job that makes several runs; Flux has no arrays."""
        return super().shared_job_template(jobs) if jobs == "array" else "flux/packed.sh.j2"

    def parse_job_id(self, stdout: str) -> str:
        """Return the id in letters that every locale has; raises SchedulerOutputError."""
        found = [match for line in stdout.splitlines() if (match := _ID.fullmatch(line.strip()))]
        if not found:
            raise SchedulerOutputError(f"flux printed no job id: {stdout.strip()!r}", command=["flux"], stdout=stdout)
        return f"f{found[-1][1]}"

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return one flux jobs for all."""
        return ["flux", "jobs", "--json", *job_ids]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read the object of one job, or the list of several; raises SchedulerOutputError for anything else."""
        try:
            answer = json.loads(stdout)
            jobs = answer.get("jobs", [answer])
            return dict(map(_status, jobs))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            said = " ".join(stdout.split())[:200] or "nothing"
            raise SchedulerOutputError(
                f"flux jobs' answer is not understood: {said!r}", command=["flux"], stdout=stdout
            ) from None

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """Flux jobs fails with these words when it knows none of the jobs."""
        lines = [line for line in stderr.splitlines() if line.strip()]
        return bool(lines) and all(re.search(r"JobID \S+ unknown", line) for line in lines)

    def cancel_command(self, job_id: str) -> list[str]:
        """Return flux cancel."""
        return ["flux", "cancel", job_id]

    def check_command(self, script: Path) -> list[str]:
        """Return a dry run, which reads the file and knows no limits."""
        return ["flux", "batch", "--dry-run", str(script)]

    def probe_command(self) -> list[str]:
        """Return the question how long the instance has been up."""
        return ["flux", "uptime"]

    def configured(self) -> bool:
        """Tell whether an instance is named."""
        return bool(os.environ.get("FLUX_URI"))

    def describe_site(self, ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return the nodes that flux resource lists."""
        text = ask(["flux", "resource", "list", "-n", "-o", "{nnodes} {ncores} {ngpus}"])
        rows = [[int(word) for word in line.split()] for line in text.splitlines() if re.fullmatch(r"[\d ]+", line)]
        nodes, cores, gpus = (sum(column) for column in zip(*rows, strict=True)) if rows else (0, 0, 0)
        site: dict[str, Any] = {"name": "Flux"}
        if nodes:
            site |= {"max_nodes": nodes, "cpus_per_node": cores // nodes}
            site |= {"gpus_per_node": gpus // nodes} if gpus else {}
        queue = {"scheduler": self.name, **({"partition": partition} if partition else {})}
        return {"site": site, "queue": queue}, []

    def hosts(self, environ: Mapping[str, str]) -> list[str]:
        """Return the hosts that the job file has asked for; raises PlacementError outside of one."""
        if not environ.get(HOSTS):
            raise PlacementError(f"{HOSTS} is not set: only job files of hpcsynapse ask Flux for the hosts of a job")
        return environ[HOSTS].split()


def _status(job: Mapping[str, Any]) -> tuple[str, JobStatus]:
    """Return a job's id and status; raises KeyError or TypeError where something is missing."""
    match = _ID.fullmatch(job["jobid"])
    if not match:
        raise KeyError(job["jobid"])
    native, code, trouble = str(job["status"]), job.get("returncode"), job.get("exception") or {}
    state = _STATES.get(native, QueueState.UNKNOWN)
    reason = str(trouble.get("note", "")) if trouble.get("occurred") else ""
    if native == "FAILED" and trouble.get("type") == "dependency":  # it can never be met
        state = QueueState.CANCELLED
    if state == QueueState.QUEUED and job.get("urgency") == 0:
        reason = "held"
    return f"f{match[1]}", JobStatus(
        state=state,
        native_state=_NATIVE.get(native, native),
        reason=reason,
        nodes=str(job.get("nodelist", "")),
        exit_code=code if isinstance(code, int) and not isinstance(code, bool) else None,
    )


def _dependencies(dependency: str | None) -> list[str]:
    """Return one option's value for each job of `afterok:ID:ID`; raises SpecError for other words."""
    if not dependency:
        return []
    kind, *jobs = dependency.split(":")
    if kind not in ("after", "afterok", "afterany", "afternotok") or not jobs:
        raise SpecError(f"queue.dependency = {dependency!r}: write after, afterok, afterany or afternotok and job ids")
    return [f"{kind}:{job}" for job in jobs]
