"""Variables of one queue in a script's body, written for another; what cannot be written is named by line.

Sources: sbatch(1), output environment variables; LoadLeveler, "Using and Administering", run-time environment; PBS
Professional Reference Guide, environment variables; LSF, environment variable reference; Grid Engine, qsub(1).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles.model import Request

# What a variable tells -> its name in each family of dialects.
_NAMES = {
    "slurm": {
        "id": "SLURM_JOB_ID",
        "name": "SLURM_JOB_NAME",
        "queue": "SLURM_JOB_PARTITION",
        "account": "SLURM_JOB_ACCOUNT",
        "user": "SLURM_JOB_USER",
        "tasks": "SLURM_NTASKS",
        "array task": "SLURM_ARRAY_TASK_ID",
        "submitted": "SLURM_SUBMIT_DIR",
    },
    "loadleveler": {
        "id": "LOADL_STEP_ID",
        "name": "LOADL_JOB_NAME",
        "queue": "LOADL_STEP_CLASS",
        "account": "LOADL_STEP_ACCT",
        "user": "LOADL_STEP_OWNER",
        "tasks": "LOADL_TOTAL_TASKS",
        "submitted": "LOADL_STEP_INITDIR",
    },
    "pbs": {
        "id": "PBS_JOBID",
        "name": "PBS_JOBNAME",
        "queue": "PBS_QUEUE",
        "account": "PBS_ACCOUNT",
        "user": "PBS_O_LOGNAME",
        "array task": "PBS_ARRAY_INDEX",
        "submitted": "PBS_O_WORKDIR",
    },
    "lsf": {
        "id": "LSB_JOBID",
        "name": "LSB_JOBNAME",
        "queue": "LSB_QUEUE",
        "tasks": "LSB_DJOB_NUMPROC",
        "array task": "LSB_JOBINDEX",
        "submitted": "LS_SUBCWD",
    },
    "gridengine": {
        "id": "JOB_ID",
        "name": "JOB_NAME",
        "queue": "QUEUE",
        "user": "SGE_O_LOGNAME",
        "tasks": "NSLOTS",
        "array task": "SGE_TASK_ID",
        "submitted": "SGE_O_WORKDIR",
    },
}
_ALSO = {"SLURM_JOBID": "id", "SLURM_NPROCS": "tasks", "PBS_ARRAYID": "array task"}  # older names of the same
# Commands that print a host of the job for each task, and each host once.
_HOST_OF_EACH_TASK = {
    "slurm": "srun --label hostname | sort -n | cut -d' ' -f2",
    "loadleveler": 'cat "$LOADL_HOSTFILE"',
    "pbs": 'cat "$PBS_NODEFILE"',
    "lsf": 'cat "$LSB_DJOB_HOSTFILE"',
    "gridengine": "awk '{ for (i = 0; i < $2; i++) print $1 }' \"$PE_HOSTFILE\"",
}
_HOSTS = {
    "slurm": "scontrol show hostnames",
    "loadleveler": 'sort -u "$LOADL_HOSTFILE"',
    "pbs": 'uniq "$PBS_NODEFILE"',
    "lsf": 'uniq "$LSB_DJOB_HOSTFILE"',
    "gridengine": "cut -d' ' -f1 \"$PE_HOSTFILE\" | uniq",
}
# Variables that a line at the start of the body can make, from the host of each task or the hosts of the job.
_FILE = '{name}=$(mktemp) && {each} > "${name}"; export {name}'
_MADE = {
    "LOADL_STEP_INITDIR": 'export {name}="$PWD"',
    "LOADL_HOSTFILE": _FILE,
    "LOADL_PROCESSOR_LIST": 'export {name}="$({each} | paste -sd " ")"',
    "SLURM_JOB_NODELIST": 'export {name}="$({hosts} | paste -sd ,)"',
    "SLURM_NODELIST": 'export {name}="$({hosts} | paste -sd ,)"',
    "SLURM_JOB_NUM_NODES": 'export {name}="$({hosts} | wc -l)"',
    "SLURM_NNODES": 'export {name}="$({hosts} | wc -l)"',
    "PBS_NODEFILE": _FILE,
    "PBS_NUM_NODES": 'export {name}="$({hosts} | wc -l)"',
    "PBS_NP": 'export {name}="$({each} | wc -l)"',
    "LSB_DJOB_HOSTFILE": _FILE,
    "LSB_HOSTS": 'export {name}="$({each} | paste -sd " ")"',
    "LSB_MCPU_HOSTS": 'export {name}="$({each} | uniq -c | awk \'{{ print $2, $1 }}\' | paste -sd " ")"',
    "PE_HOSTFILE": (
        '{name}=$(mktemp) && {each} | uniq -c | awk \'{{ print $2, $1, "UNDEFINED", "UNDEFINED" }}\' > "${name}"; '
        "export {name}"
    ),
    "NHOSTS": 'export {name}="$({hosts} | wc -l)"',
}
_FROM_REQUEST = {
    "SLURM_NTASKS_PER_NODE": "tasks_per_node",
    "SLURM_CPUS_PER_TASK": "cpus",
    "SLURM_GPUS_ON_NODE": "node_gpus",
    "PBS_NUM_PPN": "tasks_per_node",
}
# Names that anybody may use count where they are expanded alone.
_VARIABLE = {
    "slurm": re.compile(r"\bSLURM_\w+"),
    "loadleveler": re.compile(r"\bLOADL_\w+"),
    "pbs": re.compile(r"\bPBS_\w+"),
    "lsf": re.compile(r"\b(?:LSB_\w+|LS_SUBCWD)\b"),
    "gridengine": re.compile(
        r"(?:(?<=\$)|(?<=\$\{))(?:JOB_ID|JOB_NAME|QUEUE)\b|\b(?:SGE_\w+|PE_HOSTFILE|NSLOTS|NHOSTS|RESTARTED)\b"
    ),
}
_COMMANDS = {
    "slurm": ("srun", "sbatch", "scontrol", "squeue", "scancel", "mnsubmit", "mnq"),
    "loadleveler": ("poe", "llsubmit", "llq", "llcancel", "llclass", "llstatus"),
    "pbs": ("qsub", "qstat", "qdel", "qalter", "pbsdsh", "pbsnodes", "pbs_tmrsh"),
    "lsf": ("bsub", "bjobs", "bkill", "bhist", "blaunch", "jsrun"),
    "gridengine": ("qsub", "qstat", "qdel", "qalter", "qrsh", "qacct", "qmod", "qhost"),
}


def family(dialect: str) -> str:
    """Return the dialect whose variables a job has: BSC's has Slurm's."""
    return "slurm" if dialect == "minotauro" else dialect


def translate(
    body: Iterable[tuple[int, str]], source: str, target: str, request: Request
) -> tuple[list[str], list[str], list[Finding]]:
    """Return the body of one family for another, the lines to put before it, and what could not be translated."""
    made = _recipes(source, target, request)
    meanings = {**{name: meaning for meaning, name in _NAMES[source].items()}, **_ALSO}
    known = {
        name: _NAMES[target][meaning]
        for name, meaning in meanings.items()
        if name not in made and meaning in _NAMES[target]
    }
    pattern = _VARIABLE[source]
    commands = re.compile(rf"(?<![\w./$-])({'|'.join(_COMMANDS[source])})(?![\w.=-])")
    lines, needed, lost = [], dict[str, str](), []
    for number, line in body:
        comment = line.lstrip().startswith("#")
        for name in pattern.findall(line):
            if name in made:
                needed[name] = made[name]
            elif name not in known and not comment:
                lost.append(at_line(number, name, "lost", f"{target} sets no such variable"))
        line = pattern.sub(lambda match: known.get(match[0], match[0]), line)
        for command in [] if comment else commands.findall(line):
            differs = "takes other options under" if command in _COMMANDS[target] else "is not a command of"
            lost.append(at_line(number, command, "lost", f"{differs} {target}; the line is kept"))
        lines.append(line)
    return lines, list(needed.values()), lost


def _recipes(source: str, target: str, request: Request) -> dict[str, str]:
    """Return the lines that make variables of one family in a job of another, by name."""
    each, hosts = _HOST_OF_EACH_TASK[target], _HOSTS[target]
    made = {name: text.format(name=name, each=each, hosts=hosts) for name, text in _MADE.items()}
    values = {name: getattr(request, field) for name, field in _FROM_REQUEST.items()}
    made.update({name: f"export {name}={value}" for name, value in values.items() if value})
    made["LOADL_STEP_NAME"] = f"export LOADL_STEP_NAME={shlex.quote(request.step or '0')}"
    if "tasks" not in _NAMES[target] and (name := _NAMES[source].get("tasks")):
        made[name] = f'export {name}="$({each} | wc -l)"'
    return made
