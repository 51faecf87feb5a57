"""Grid Engine (Son of Grid Engine, Univa, Altair, Open Cluster Scheduler): qsub, qstat, qacct, qdel.

Manual pages: submit(1), qstat(1), sge_pe(5), sge_status(5), accounting(5). It asks for slots, never for nodes: a site
has parallel environments that give every node the same number of them, or a resource that stands for a node.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcsynapse.errors import PlacementError, SchedulerOutputError, SpecError
from hpcsynapse.files import user_name
from hpcsynapse.job import hostlist
from hpcsynapse.schedulers import gridengine_answers as answers
from hpcsynapse.schedulers import gridengine_site
from hpcsynapse.schedulers.base import Ask, JobStatus, Scheduler, mail_letters
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.units import parse_mebibytes

_TERSE = re.compile(r"^([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)?[ \t\r]*$", re.MULTILINE)
_SAID = re.compile(r"\bYour job(?:-array)? ([0-9]+)[ .].*has been submitted")
_TASK = '$([ "${SGE_TASK_ID:-undefined}" = undefined ] || echo ".$SGE_TASK_ID")'


class GridEngine(Scheduler):
    """Grid Engine since 6.2."""

    name = "gridengine"
    job_file = "job.sge.sh"
    template = "gridengine/job.sh.j2"
    job_id_variable = "${JOB_ID}"
    owner_variable = "${JOB_ID}" + _TASK
    restart_suffix = ".$(date +%s)"  # RESTARTED is 0 or 1, however often
    lacks = ("queue.qos", "queue.comment", "queue.hint")
    record_lag = 60.0  # flush_time, 15 s, and what sites make of it
    programs = ("qsub", "qstat", "qconf")
    directive = "#$ "
    own_directives = ("-N ", "-o ")
    job_variables = ("JOB_ID", "PE_HOSTFILE")
    preferred = ("mpirun", "mpiexec")
    hydra_launcher = "sge"
    end_signals = ("USR2",)  # -notify: so long before SIGKILL as the queue has it (60 s)

    def refuse(self, spec: JobSpec) -> None:
        """Refuse what Grid Engine lacks, and a dependency on how another job ends: it waits for the end alone."""
        super().refuse(spec)
        kind, separator, _ = (spec.queue.dependency or "").partition(":")
        if separator and kind != "afterany":
            raise SpecError(
                f"queue.dependency = {spec.queue.dependency!r}: gridengine starts a job after the end of another, "
                "however it ends; write afterany:ID"
            )

    def request(self, spec: JobSpec) -> dict[str, Any]:
        """Return slots, the environment that spreads them, and resources; raises SpecError for what a site must say."""
        site, resources, nodes = spec.site, spec.resources, spec.allocated_nodes
        slots = (resources.cpus or 1) * resources.local_size
        return {
            "job_name": f"j{spec.name}" if str(spec.name)[0].isdigit() else spec.name,
            "spread": _spread(spec, slots),
            "limits": [*_limits(spec, slots), *([f"{site.node_unit}={nodes}"] if site.node_unit else [])],
            "after": (spec.queue.dependency or "").rpartition("afterany:")[2].replace(":", ","),
            "hosts_left_out": "|".join(one for text in spec.queue.exclude for one in hostlist.expand(text)),
            "mail": mail_letters(spec, {"BEGIN": "b", "END": "e", "FAIL": "a"}, none="n"),
            "account_option": site.account_option or "A",
        }

    def submit_command(self, script: Path) -> list[str]:
        """Return `qsub -terse`, which prints the id alone."""
        return ["qsub", "-terse", str(script)]

    def after_options(self, job_id: str) -> list[str]:
        """Return the hold until another job has ended."""
        return ["-hold_jid", job_id]

    def shared_job_template(self, jobs: str) -> str:
        """Return the template of an array, or of a job that makes several runs."""
        return f"gridengine/{jobs}.sh.j2"

    def array_task_id(self, job_id: str, task: int) -> str:
        """Return `12.1` for the first task: Grid Engine counts from 1."""
        return f"{job_id}.{task + 1}"

    def array_of(self, job_id: str) -> str | None:
        """Return the number before the task's."""
        number, separator, _ = job_id.partition(".")
        return number if separator else None

    def parse_job_id(self, stdout: str) -> str:
        """Return the id, behind whatever a site's own checks print; raises SchedulerOutputError."""
        found = _SAID.findall(stdout) or _TERSE.findall(stdout)
        if not found:
            raise SchedulerOutputError(f"qsub printed no job id: {stdout.strip()!r}", command=["qsub"], stdout=stdout)
        return str(found[-1])

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return one qstat for all jobs of the user: those of given ids it lists without their states."""
        return ["qstat", "-xml", "-u", user_name()]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read the document of qstat or the records of qacct; raises SchedulerOutputError for anything else."""
        return answers.parse(stdout)

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """A job that has ended is simply not listed, so a failure is always one."""
        return False

    def history_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return qacct for each of the jobs, which takes one; what it says of those it does not know counts too."""
        script = (
            'for one in "$@"; do qacct -j "${one%%.*}" $([ "$one" = "${one%.*}" ] || echo "-t ${one#*.}") 2>&1; done; :'
        )
        return ["bash", "-c", script, "qacct", *job_ids]

    def cancel_command(self, job_id: str) -> list[str]:
        """Return qdel, which takes `12.3` for a task of an array."""
        return ["qdel", job_id]

    def check_command(self, script: Path) -> list[str]:
        """Return `qsub -w v`, which asks whether an empty cluster could run it, and submits nothing."""
        return ["qsub", "-w", "v", str(script)]

    def probe_command(self) -> list[str]:
        """Return the list of queues, which fails without a qmaster."""
        return ["qconf", "-sql"]

    def configured(self) -> bool:
        """Tell whether a cell is named; without it none of the commands finds its qmaster."""
        return bool(os.environ.get("SGE_ROOT"))

    def describe_site(self, ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return what qconf and qhost say of environments, slots and GPUs."""
        return gridengine_site.describe(ask, partition)

    def choices(self, ask: Ask) -> dict[str, list[str]]:
        """Return the queues."""
        return {"partition": ask(["qconf", "-sql"]).split()}

    def hosts(self, environ: Mapping[str, str]) -> list[str]:
        """Return the hosts of PE_HOSTFILE, each once; without a parallel environment the job is on this one."""
        name = environ.get("PE_HOSTFILE")
        if not name:
            return [environ["HOSTNAME"]] if environ.get("HOSTNAME") else []
        try:
            lines = Path(name).read_text().splitlines()
        except OSError as error:
            raise PlacementError(f"PE_HOSTFILE {name}: {error.strerror}") from None
        return list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))


def _spread(spec: JobSpec, slots: int) -> str:
    """Return the environment and the number of slots; raises SpecError where the site names none and one is needed."""
    site, nodes = spec.site, spec.allocated_nodes
    if site.node_unit or (nodes == slots == 1 and not site.parallel_environment):
        return ""
    if not site.parallel_environment:
        raise SpecError(
            f"{nodes} nodes with {slots} slots each need site.parallel_environment in the site file: one that gives "
            "every node so many slots, such as mpi-{slots} (qconf -spl lists them), or site.node_unit"
        )
    return f"{site.parallel_environment.replace('{slots}', str(slots))} {nodes * slots}"


def _limits(spec: JobSpec, slots: int) -> list[str]:
    """Return the resources behind -l."""
    site, resources = spec.site, spec.resources
    found = [f"h_rt={int(resources.walltime.total_seconds())}"]
    if resources.gpus and site.gpu_request != "none" and not site.node_unit:
        if site.gpu_per == "slot" and resources.gpus % slots:
            raise SpecError(
                f"{resources.gpus} GPUs on each node are no whole number for each of its {slots} slots; use --cpus and "
                "--ranks-per-node whose product divides them"
            )
        count = resources.gpus // slots if site.gpu_per == "slot" else resources.gpus
        found.append(f"{site.gpu_resource or 'gpu'}={count}")
    if resources.gpu_type:
        found.append(f"{site.gpu_type_resource or 'gpu_type'}={resources.gpu_type}")
    if resources.mem is not None and site.accept_mem:
        if not (mebibytes := parse_mebibytes(resources.mem)):
            raise SpecError("resources.mem = 0 has no counterpart under gridengine; use --exclusive")
        found.append(f"{site.memory_resource or 'mem_free'}={max(1, mebibytes // slots)}M")
    return [*found, *(["exclusive=true"] if resources.exclusive else []), *filter(None, [spec.queue.constraint])]
