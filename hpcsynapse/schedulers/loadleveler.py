"""IBM LoadLeveler: llsubmit, llq, llcancel. Manual: "Using and Administering", chapters on commands and job states."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcsynapse.errors import SchedulerOutputError, SpecError
from hpcsynapse.findings import Finding
from hpcsynapse.jobfiles import reader
from hpcsynapse.schedulers.base import ANYWHERE, Ask, JobStatus, QueueState, Scheduler
from hpcsynapse.schedulers.loadleveler_hosts import task_hosts
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.settings import read_toml
from hpcsynapse.spec.site import shipped_sites
from hpcsynapse.units import parse_mebibytes

# llq, table of job states. A system hold and, at some sites, a suspended job are both S; neither is running.
_BY_STATE = {
    QueueState.QUEUED: "I NQ D H HS S V P",
    QueueState.RUNNING: "ST R CK CP E EP MP RP VP XP",
    QueueState.COMPLETED: "C",
    QueueState.CANCELLED: "CA RM",
    QueueState.FAILED: "NR TX X SX",
}
_STATES = {native: state for state, natives in _BY_STATE.items() for native in natives.split()}
_NOTHING = "There is currently no job status to report"
_REASONS = {
    "H": "held by its user",
    "S": "held by the system or suspended",
    "HS": "held",
    "D": "deferred",
    "NQ": "not considered yet",
    "NR": "a dependency was found false",
    "X": "rejected",
    "V": "vacated, will start again",
    "E": "preempted",
    "TX": "terminated",
}
_SUBMITTED = re.compile(r'llsubmit: The job "([\w.-]+)\.(\d+)"(?: with \d+ job steps)? has been submitted')
_STEP = re.compile(r"([\w-]+)(?:\.[\w-]+)*?\.(\d+)\.(\d+)")


class LoadLeveler(Scheduler):
    """LoadLeveler 3 to 5; a run is a job of one step, `host.N.0`, with the host's name without its domain."""

    name = "loadleveler"
    job_file = "job.ll"
    template = "loadleveler/job.ll.j2"
    job_id_variable = "${LOADL_STEP_ID}"
    restart_suffix = ".$(date +%s)"  # LoadLeveler counts no restarts
    lacks = ("queue.qos", "queue.reservation", "queue.signal", "queue.exclude", "queue.dependency", "queue.hint")
    job_variables = ("LOADL_STEP_ID", "LOADL_HOSTFILE", "LOADL_PROCESSOR_LIST")
    programs = ("llsubmit", "llq")
    launchers = ("poe", *ANYWHERE)
    preferred = ("poe", "mpiexec")
    tells_launchers = False  # newer mpiruns no longer read LOADL_HOSTFILE, and reach other nodes through ssh

    def refuse(self, spec: JobSpec) -> None:
        """Refuse what LoadLeveler lacks; nodes with GPUs must be known by class or feature, since it counts none."""
        super().refuse(spec)
        if spec.resources.gpus and not (self.features(spec) or spec.queue.partition):
            raise SpecError(
                "LoadLeveler has no count of GPUs: say which nodes have them with --partition CLASS, --constraint "
                "FEATURE or, in the site file, site.gpu_feature"
            )
        if spec.resources.mem is not None and parse_mebibytes(spec.resources.mem) == 0:
            raise SpecError("resources.mem = 0 has no counterpart under loadleveler; use --exclusive")

    def features(self, spec: JobSpec) -> list[str]:
        """Return what nodes must have: the site's mark of nodes with GPUs, the kind of GPU, the constraint."""
        mark = spec.site.gpu_feature if spec.resources.gpus else None
        return [*([mark] if mark else []), *super().features(spec)]

    def notification(self, spec: JobSpec) -> str:
        """Return always, complete, error, start or never; LoadLeveler takes one of them."""
        if not spec.queue.mail_user:
            return "never"
        events = set((spec.queue.mail_type or "END,FAIL").upper().split(","))
        if unknown := events - {"NONE", "ALL", "BEGIN", "END", "FAIL"}:
            raise SpecError(
                f"queue.mail_type = {spec.queue.mail_type!r}: {', '.join(sorted(unknown))} has no counterpart under "
                "loadleveler; there are ALL, BEGIN, END, FAIL and NONE"
            )
        if events in ({"BEGIN"}, {"FAIL"}, {"NONE"}):
            return {"BEGIN": "start", "FAIL": "error", "NONE": "never"}[events.pop()]
        return "always" if events & {"ALL", "BEGIN"} else "complete"

    def submit_command(self, script: Path) -> list[str]:
        """Return llsubmit."""
        return ["llsubmit", str(script)]

    def parse_job_id(self, stdout: str) -> str:
        """Return the id of the first step, found behind whatever banner or submit filter speaks first."""
        found = _SUBMITTED.findall(stdout)
        if not found:
            raise SchedulerOutputError(
                f"llsubmit printed no job id: {stdout.strip()!r}", command=["llsubmit"], stdout=stdout
            )
        host, number = found[-1]
        return f"{host.partition('.')[0]}.{number}.0"

    def owner_id(self, job_id: str) -> str:
        """Return the step without the host's domain, as ids are kept here; the job script knows it with the domain."""
        match = _STEP.fullmatch(job_id)
        return f"{match[1]}.{match[2]}.{match[3]}" if match else job_id

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return one llq in raw form for all steps."""
        return ["llq", "-r", "%id", "%st", *job_ids]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read `id!state` lines; an empty queue says so in a sentence. Raises SchedulerOutputError without either."""
        found = {}
        for line in stdout.splitlines():
            parts = [part.strip() for part in line.split("!")]
            match = _STEP.fullmatch(parts[0])
            if len(parts) < 2 or not match:
                continue
            native = parts[1]
            found[f"{match[1]}.{match[2]}.{match[3]}"] = JobStatus(
                state=_STATES.get(native, QueueState.UNKNOWN), native_state=native, reason=_REASONS.get(native, "")
            )
        if not found and stdout.strip() and _NOTHING not in stdout:
            said = " ".join(stdout.split())[:200]
            raise SchedulerOutputError(f"llq's answer is not understood: {said!r}", command=["llq"], stdout=stdout)
        return found

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """Llq says that there is nothing to report when it knows none of the steps."""
        return _NOTHING in stderr

    def cancel_command(self, job_id: str) -> list[str]:
        """Return llcancel, which only says that the request was sent."""
        return ["llcancel", job_id]

    def job_file_problems(self, text: str) -> list[Finding]:
        """Return what the manual's rules say: llsubmit validates a file only by submitting it."""
        return [Finding("error", "job file", str(one)) for one in reader.read(text.encode(), self.name).errors]

    def describe_site(self, ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return the shipped site file for any LoadLeveler: what llstatus says of GPUs is each site's own."""
        return read_toml(shipped_sites()["generic-loadleveler"]), []

    def hosts(self, environ: Mapping[str, str]) -> list[str]:
        """Return the hosts of the job's tasks, each once; raises PlacementError where it is not told all of them."""
        return list(dict.fromkeys(task_hosts(environ)))
