"""PBS Professional and OpenPBS, and Torque, which is older: qsub, qstat, qdel.

Manuals: PBS Professional Reference Guide (qsub, qstat, states, exit codes), pbs_job_attributes(7B); of Torque
pbs_resources(7B).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hpcsynapse.errors import PlacementError, SchedulerOutputError, SpecError
from hpcsynapse.findings import Finding
from hpcsynapse.jobfiles import reader
from hpcsynapse.schedulers import pbs_answers as answers
from hpcsynapse.schedulers.base import Ask, JobStatus, Scheduler, mail_letters
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.units import parse_mebibytes

_PRINTED = re.compile(r"^([0-9]+(?:\[[0-9]*\])?)(?:\.[\w.-]+)?[ \t\r]*$", re.MULTILINE)
_ID = re.compile(r"[0-9]+(?:\[[0-9]*\])?")
# Ended jobs are listed only where the server keeps a history, and where it keeps none -x lists nothing at all. Jobs
# that are unknown (153) or have left (35) are complained of, and the others printed all the same.
_ASK = (
    'exec 3>&1; said=$(qstat -x -f "$@" 2>&1 >&3); code=$?; '
    'case $said in *"job history"*) said=$(qstat -f "$@" 2>&1 >&3); code=$? ;; esac; '
    f'case $code in 0|35|153) echo "{answers.END}" ;; *) printf "%s\\n" "$said" >&2; exit $code ;; esac'
)
_ASK_TORQUE = (
    'exec 3>&1; said=$(qstat -f "$@" 2>&1 >&3); code=$?; '
    f'case $code in 0|153) echo "{answers.END}" ;; *) printf "%s\\n" "$said" >&2; exit $code ;; esac'
)


class Pbs(Scheduler):
    """PBS since 13: chunks of nodes by `select`; a job is known by its number, without the server's name."""

    name = "pbs"
    job_file = "job.pbs"
    template = "pbs/job.sh.j2"
    job_id_variable = "${PBS_JOBID%%[!0-9]*}"
    owner_variable = "${PBS_JOBID%%.*}"
    restart_suffix = ".$(date +%s)"  # PBS tells a job no count of its starts
    lacks = ("queue.qos", "queue.comment", "queue.exclude", "queue.hint")
    programs: ClassVar[tuple[str, ...]] = ("qsub", "qstat", "pbs_rstat")
    directive = "#PBS "
    own_directives = ("-N ", "-o ", "-r ")
    job_variables = ("PBS_JOBID",)
    preferred = ("mpirun", "mpiexec")
    tells_launchers = False  # many are built without it, and reach other nodes through an agent
    hydra_launcher = "rsh"

    def refuse(self, spec: JobSpec) -> None:
        """Refuse what PBS lacks, and a reservation, which is a queue there."""
        super().refuse(spec)
        if spec.queue.reservation:
            raise SpecError(
                f"queue.reservation = {spec.queue.reservation!r}: under {self.name} a reservation is a queue; say "
                "--partition"
            )
        if spec.resources.mem is not None and parse_mebibytes(spec.resources.mem) == 0:
            raise SpecError(f"resources.mem = 0 has no counterpart under {self.name}; use --exclusive")

    def request(self, spec: JobSpec) -> dict[str, Any]:
        """Return the lists behind -l, and what else the template needs."""
        return {
            "resource_lists": self.resource_lists(spec),
            "mail": mail_letters(spec, {"BEGIN": "b", "END": "e", "FAIL": "a"}, none="n"),
            "account_option": spec.site.account_option or "A",
            "log_file": "/dev/null",
        }

    def resource_lists(self, spec: JobSpec) -> list[str]:
        """Return what is asked of the nodes: chunks of one node each, or sums for the job where a site wants those."""
        site, resources, nodes = spec.site, spec.resources, spec.allocated_nodes
        each = node_counts(spec)
        walltime = f"walltime={int(resources.walltime.total_seconds())}"
        if site.counted_per == "job":
            return [f"{name}={_times(value, nodes)}" for name, value in each.items() if name != "mpiprocs"] + [walltime]
        chunk = ":".join((str(nodes), *(f"{name}={value}" for name, value in each.items()), *self.marks(spec)))
        return [f"select={chunk}", f"place=scatter{':exclhost' if resources.exclusive else ''}", walltime]

    def marks(self, spec: JobSpec) -> list[str]:
        """Return what nodes must have: the kind of GPU and the constraint, as `name=value`."""
        kind = spec.resources.gpu_type
        marks = [f"{spec.site.gpu_type_resource or 'gpu_type'}={kind}"] if kind else []
        return [*marks, *filter(None, [spec.queue.constraint])]

    def submit_command(self, script: Path) -> list[str]:
        """Return qsub, which prints the id."""
        return ["qsub", str(script)]

    def after_options(self, job_id: str) -> list[str]:
        """Return the dependency on another job's end."""
        return ["-W", f"depend=afterany:{job_id}"]

    def shared_job_template(self, jobs: str) -> str:
        """Return the template of an array, or of a job that makes several runs."""
        return f"pbs/{jobs}.sh.j2"

    def array_task_id(self, job_id: str, task: int) -> str:
        """Return `12[3]` for `12[]`; an array of one is none (qsub refuses it), and keeps its id."""
        return job_id.replace("[]", f"[{task + 1}]")

    def array_of(self, job_id: str) -> str | None:
        """Return `12[]` for `12[3]`."""
        number, separator, _ = job_id.partition("[")
        return f"{number}[]" if separator else None

    def parse_job_id(self, stdout: str) -> str:
        """Return the number, with the brackets of an array; the server's name may be long, and qstat cuts it."""
        found = _PRINTED.findall(stdout)
        if not found:
            raise SchedulerOutputError(f"qsub printed no job id: {stdout.strip()!r}", command=["qsub"], stdout=stdout)
        return str(found[-1])

    def owner_id(self, job_id: str) -> str:
        """Return the id without the server's name."""
        return job_id.partition(".")[0]

    def is_job_id(self, text: str) -> bool:
        """Tell whether this is a number, or an element of an array."""
        return bool(_ID.fullmatch(text))

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return one question in the text form of qstat, which all releases have in common."""
        return ["bash", "-c", _ASK, "qstat", *job_ids]

    def parse_status(self, stdout: str) -> dict[str, JobStatus]:
        """Read the blocks of `qstat -f`; raises SchedulerOutputError for anything else."""
        return answers.parse(stdout)

    def unknown_jobs(self, code: int, stderr: str) -> bool:
        """Jobs that the server has forgotten are no failure of the question, see `status_command`."""
        return False

    def cancel_command(self, job_id: str) -> list[str]:
        """Return qdel."""
        return ["qdel", job_id]

    def probe_command(self) -> list[str]:
        """Return the question about the server."""
        return ["qstat", "-B"]

    def configured(self) -> bool:
        """Tell whether there is a configuration."""
        return bool(os.environ.get("PBS_CONF_FILE")) or Path("/etc/pbs.conf").exists()

    def job_file_problems(self, text: str) -> list[Finding]:
        """Return what qsub would refuse about options and resources: it has no way to ask it beforehand."""
        return [Finding("error", "job file", str(one)) for one in reader.read(text.encode(), "pbs").errors]

    def describe_site(self, ask: Ask, partition: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return the nodes that pbsnodes lists."""
        return answers.describe(ask, self.name)

    def hosts(self, environ: Mapping[str, str]) -> list[str]:
        """Return the hosts of PBS_NODEFILE, which has a line for every rank, each once."""
        name = environ.get("PBS_NODEFILE", "")
        try:
            return list(dict.fromkeys(Path(name).read_text().split())) if name else []
        except OSError as error:
            raise PlacementError(f"PBS_NODEFILE {name}: {error.strerror}") from None


class Torque(Pbs):
    """Torque, with Moab or Maui: nodes by `nodes=N:ppn=P`, array tasks in PBS_ARRAYID, no history."""

    name = "torque"
    job_file = "job.torque.sh"
    programs = ()  # of those of PBS: it is named where it is meant

    def resource_lists(self, spec: JobSpec) -> list[str]:
        """Return `nodes=N:ppn=P:gpus=G`, and memory for the whole job."""
        each, nodes = node_counts(spec), spec.allocated_nodes
        gpus = f":gpus={spec.resources.gpus}" if spec.resources.gpus and spec.site.gpu_request != "none" else ""
        marks = "".join(f":{mark}" for mark in self.features(spec))
        lists = [f"nodes={nodes}:ppn={each['ncpus']}{gpus}{marks}"]
        if "mem" in each:
            lists.append(f"mem={_times(each['mem'], nodes)}")
        if spec.resources.exclusive:
            lists.append("naccesspolicy=singlejob")
        return [*lists, f"walltime={int(spec.resources.walltime.total_seconds())}"]

    def status_command(self, job_ids: Sequence[str]) -> list[str]:
        """Return `qstat -f`: -x would be XML."""
        return ["bash", "-c", _ASK_TORQUE, "qstat", *job_ids]

    def shared_job_template(self, jobs: str) -> str:
        """Return the template of a job that makes several runs; arrays are PBS's own here."""
        return Scheduler.shared_job_template(self, jobs) if jobs == "array" else super().shared_job_template(jobs)


def node_counts(spec: JobSpec) -> dict[str, str]:
    """Return the resources of one node by their names there."""
    resources, site = spec.resources, spec.site
    found = {"ncpus": str((resources.cpus or 1) * resources.local_size), "mpiprocs": str(resources.local_size)}
    if resources.gpus and site.gpu_request != "none":
        found[site.gpu_resource or "ngpus"] = str(resources.gpus)
    if resources.mem is not None and site.accept_mem:
        found[site.memory_resource or "mem"] = f"{parse_mebibytes(resources.mem)}mb"
    return found


def _times(value: str, nodes: int) -> str:
    number = value.removesuffix("mb")
    return f"{int(number) * nodes}{value[len(number) :]}"
