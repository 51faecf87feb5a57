"""IBM Spectrum LSF: bsub, bjobs, bhist, bkill. Manual: IBM documentation, LSF 10.1, command reference.

Job files are read from standard input: `bsub FILE` would run the file without reading what it asks for.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcsynapse.errors import CommandError, PlacementError, SchedulerOutputError, SpecError
from hpcsynapse.job import hostlist
from hpcsynapse.schedulers import lsf_answers as answers
from hpcsynapse.schedulers.base import Ask, JobStatus, Scheduler, mail_letters
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.units import parse_mebibytes

_SAID = re.compile(r"Job <([0-9]+)> is submitted")
_ID = re.compile(r"[0-9]+(?:\[[0-9]+\])?")
_FIELDS = "jobid jobindex stat exit_code exit_reason pend_reason exec_host"
# bsub(1), -w: when a job may start after others.
_AFTER = {"afterok": "done", "afterany": "ended", "afternotok": "exit", "after": "started"}


class Lsf(Scheduler):
    """LSF since 10.1.0.2, whose bjobs prints JSON. Slots are cores; a node has those of its ranks."""

    name = "lsf"
    job_file = "job.lsf"
    template = "lsf/job.sh.j2"
    job_id_variable = "${LSB_JOBID}"
    owner_variable = '${LSB_JOBID}$([ "${LSB_JOBINDEX:-0}" = 0 ] || echo "[$LSB_JOBINDEX]")'
    restart_suffix = ".$(date +%s)"  # LSF tells a job no count of its starts
    lacks = ("queue.comment", "queue.hint")
    record_lag = 60.0  # bjobs has been seen to list nothing while jobs went on
    programs = ("bsub", "bjobs")
    reads_stdin = True
    directive = "#BSUB "
    own_directives = ("-J ", "-o ")
    job_variables = ("LSB_JOBID",)
    preferred = ("mpirun", "mpiexec")
    tells_launchers = False
    hydra_launcher = "lsf"
    end_signals = ("INT", "USR2")  # bkill begins with the first, the run limit with the other

    def request(self, spec: JobSpec) -> dict[str, Any]:
        """Return slots, resource strings and the like; raises SpecError for what LSF cannot be asked for."""
        site, resources = spec.site, spec.resources
        slots = (resources.cpus or 1) * resources.local_size
        minutes = -(-int(resources.walltime.total_seconds()) // 60)
        return {
            "slots_asked": slots * spec.allocated_nodes,
            "requirements": _requirements(spec, slots),
            "gpu": _gpu(spec),
            "run_limit": f"{minutes // 60}:{minutes % 60:02}",  # whole minutes
            "condition": _condition(spec.queue.dependency),
            "mail": mail_letters(spec, {"BEGIN": "B", "END": "N", "FAIL": "N"}, none=""),
            "account_option": site.account_option or "P",
        }

    def submit_command(self, script: Path) -> list[str]:
        """Return bsub, which is given the file on its standard input."""
        return ["bsub"]

    def after_options(self, job_id: str) -> list[str]:
        """Return the condition that another job has ended."""
        return ["-w", f"ended({job_id})"]

    def shared_job_template(self, jobs: str) -> str:
        """Return the template of an array, or of a job that makes several runs."""
        return f"lsf/{jobs}.sh.j2"

    def array_task_id(self, job_id: str, task: int) -> str:
        """Return `12[1]` for the first task."""
        return f"{job_id}[{task + 1}]"

    def array_of(self, job_id: str) -> str | None:
        """Return the number before the brackets."""
        number, separator, _ = job_id.partition("[")
        return number if separator else None

    def parse_job_id(self, stdout: str) -> str:
        """Return the number, among whatever sites print around it; raises SchedulerOutputError."""
        found = _SAID.findall(stdout)
        if not found:
            raise SchedulerOutputError(f"bsub printed no job id: {stdout.strip()!r}", command=["bsub"], stdout=stdout)
        return str(found[-1])

    def is_job_id(self, text: str) -> bool:
        """Tell whether this is a number, or an element of an array; bkill takes 0, and nothing, for all jobs."""
        return bool(_ID.fullmatch(text)) and not text.startswith("0")

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return one bjobs, ended jobs included as long as it keeps them (CLEAN_PERIOD, an hour)."""
        return ["bjobs", "-a", "-o", _FIELDS, "-json", *job_ids]

    def history_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return bhist for jobs that bjobs no longer has."""
        return ["bhist", "-n", "0", "-l", *job_ids]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read what bjobs or bhist printed; raises SchedulerOutputError for anything else."""
        return answers.parse(stdout)

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """Bjobs fails with these words when it knows none of the jobs."""
        lines = [line for line in stderr.splitlines() if line.strip()]
        return bool(lines) and all(re.search(r"is not found|No (unfinished )?job found", line) for line in lines)

    def cancel_command(self, job_id: str) -> list[str]:
        """Return bkill."""
        return ["bkill", job_id]

    def probe_command(self) -> list[str]:
        """Return lsid, which asks for the cluster and its master."""
        return ["lsid"]

    def configured(self) -> bool:
        """Tell whether lsf.conf's folder is named."""
        return bool(os.environ.get("LSF_ENVDIR"))

    def describe_site(self, ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return the hosts that bhosts lists; raises CommandError where it is not understood."""
        text = ask(["bhosts", "-o", "host_name max", "-json"])
        try:
            slots = Counter(int(one["MAX"]) for one in json.loads(text)["RECORDS"] if str(one["MAX"]).isdigit())
        except (ValueError, KeyError, TypeError):
            raise CommandError("bhosts is not understood", command=["bhosts"], stdout=text) from None
        site: dict[str, Any] = {"name": "LSF", "max_nodes": sum(slots.values()) or 1}
        if slots:
            site["cpus_per_node"] = slots.most_common(1)[0][0]
        queue = {"scheduler": self.name, **({"partition": partition} if partition else {})}
        return {"site": site, "queue": queue}, ["bhosts -gpu lists GPUs: give site.gpus_per_node yourself"]

    def hosts(self, environ: Mapping[str, str]) -> list[str]:
        """Return the hosts of the job, each once: LSB_HOSTS is missing in big jobs, so it comes last."""
        if name := environ.get("LSB_DJOB_HOSTFILE"):
            with suppress(OSError):
                return list(dict.fromkeys(Path(name).read_text().split()))
        words = environ.get("LSB_MCPU_HOSTS", "").split()[::2] or environ.get("LSB_HOSTS", "").split()
        if not words:
            raise PlacementError("none of LSB_DJOB_HOSTFILE, LSB_MCPU_HOSTS and LSB_HOSTS tells the hosts of this job")
        return list(dict.fromkeys(words))


def _requirements(spec: JobSpec, slots: int) -> list[str]:
    """Return the resource strings, of which all must hold."""
    site, resources = spec.site, spec.resources
    found = [f"span[ptile={slots}]"]
    if resources.mem is not None and site.accept_mem:
        if not (mebibytes := parse_mebibytes(resources.mem)):
            raise SpecError("resources.mem = 0 has no counterpart under lsf; use --exclusive")
        each = max(1, mebibytes // slots) if site.memory_per == "slot" else mebibytes
        found.append(f"rusage[{site.memory_resource or 'mem'}={each}MB]")
    hosts = [one for text in spec.queue.exclude for one in hostlist.expand(text)]
    if hosts:
        found.append("select[" + "&&".join(f"hname!={host}" for host in hosts) + "]")
    return [*found, *([f"select[{spec.queue.constraint}]"] if spec.queue.constraint else [])]


def _gpu(spec: JobSpec) -> str:
    """Return the GPUs of each host, which no other job may use meanwhile."""
    resources = spec.resources
    if not resources.gpus or spec.site.gpu_request == "none":
        return ""
    kind = f":gmodel={resources.gpu_type}" if resources.gpu_type else ""
    return f"num={resources.gpus}:mode=shared:j_exclusive=yes{kind}"


def _condition(dependency: str | None) -> str:
    """Return bsub's condition for `afterok:12:13`; raises SpecError for other words."""
    if not dependency:
        return ""
    kind, *jobs = dependency.split(":")
    if kind not in _AFTER or not jobs:
        raise SpecError(f"queue.dependency = {dependency!r}: write one of {', '.join(_AFTER)} and job ids: afterok:123")
    return "&&".join(f"{_AFTER[kind]}({job})" for job in jobs)
