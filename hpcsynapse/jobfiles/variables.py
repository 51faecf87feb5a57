"""Variables of one queue in a script's body, written for another; what cannot be written is named by line.

Sources: sbatch(1), output environment variables; LoadLeveler, "Using and Administering", run-time environment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from hpcsynapse.findings import Finding, at_line
from hpcsynapse.jobfiles.model import Request

_TO_SLURM = {
    "LOADL_STEP_ID": "SLURM_JOB_ID",
    "LOADL_JOB_NAME": "SLURM_JOB_NAME",
    "LOADL_TOTAL_TASKS": "SLURM_NTASKS",
    "LOADL_STEP_CLASS": "SLURM_JOB_PARTITION",
    "LOADL_STEP_ACCT": "SLURM_JOB_ACCOUNT",
    "LOADL_STEP_OWNER": "SLURM_JOB_USER",
}
_TO_LOADLEVELER = {
    **{slurm: loadl for loadl, slurm in _TO_SLURM.items()},
    "SLURM_JOBID": "LOADL_STEP_ID",
    "SLURM_SUBMIT_DIR": "LOADL_STEP_INITDIR",
    "SLURM_NPROCS": "LOADL_TOTAL_TASKS",
}
_HOST_OF_EACH_TASK = "srun --label hostname | sort -n | cut -d' ' -f2"
# Variables that a few lines at the start of the body can make.
_MADE_UNDER_SLURM = {
    "LOADL_STEP_INITDIR": 'export LOADL_STEP_INITDIR="$PWD"',
    "LOADL_HOSTFILE": f'LOADL_HOSTFILE=$(mktemp) && {_HOST_OF_EACH_TASK} > "$LOADL_HOSTFILE"; export LOADL_HOSTFILE',
    "LOADL_PROCESSOR_LIST": f'export LOADL_PROCESSOR_LIST="$({_HOST_OF_EACH_TASK} | paste -sd " ")"',
}
_MADE_UNDER_LOADLEVELER = {
    "SLURM_JOB_NODELIST": 'export SLURM_JOB_NODELIST="$(sort -u "$LOADL_HOSTFILE" | paste -sd ,)"',
    "SLURM_NODELIST": 'export SLURM_NODELIST="$(sort -u "$LOADL_HOSTFILE" | paste -sd ,)"',
    "SLURM_JOB_NUM_NODES": 'export SLURM_JOB_NUM_NODES="$(sort -u "$LOADL_HOSTFILE" | wc -l)"',
    "SLURM_NNODES": 'export SLURM_NNODES="$(sort -u "$LOADL_HOSTFILE" | wc -l)"',
}
_FROM_REQUEST = {
    "SLURM_NTASKS_PER_NODE": "tasks_per_node",
    "SLURM_CPUS_PER_TASK": "cpus",
    "SLURM_GPUS_ON_NODE": "node_gpus",
}
_VARIABLE = {"slurm": re.compile(r"\bLOADL_\w+"), "loadleveler": re.compile(r"\bSLURM_\w+")}
_COMMANDS = {
    "slurm": re.compile(r"(?<![\w./$-])(poe|llsubmit|llq|llcancel|llclass|llstatus)(?![\w.=-])"),
    "loadleveler": re.compile(r"(?<![\w./$-])(srun|sbatch|scontrol|squeue|scancel|mnsubmit|mnq)(?![\w.=-])"),
}


def translate(
    body: Iterable[tuple[int, str]], target: str, request: Request
) -> tuple[list[str], list[str], list[Finding]]:
    """Return the body for `slurm` or `loadleveler`, the lines to put before it, and what could not be translated."""
    known = _TO_SLURM if target == "slurm" else _TO_LOADLEVELER
    made = dict(_MADE_UNDER_SLURM if target == "slurm" else _MADE_UNDER_LOADLEVELER)
    if target == "slurm":
        made["LOADL_STEP_NAME"] = f"export LOADL_STEP_NAME={shlex.quote(request.step or '0')}"
    else:
        values = {name: getattr(request, field) for name, field in _FROM_REQUEST.items()}
        made.update({name: f"export {name}={value}" for name, value in values.items() if value})
    lines, needed, lost = [], dict[str, str](), []
    for number, line in body:
        names = _VARIABLE[target].findall(line)
        for name in names:
            if name in made:
                needed[name] = made[name]
            elif name not in known and not line.lstrip().startswith("#"):
                lost.append(at_line(number, name, "lost", f"{target} sets no such variable"))
        if names:
            line = _VARIABLE[target].sub(lambda match: known.get(match[0], match[0]), line)
        if not line.lstrip().startswith("#"):
            for command in _COMMANDS[target].findall(line):
                lost.append(at_line(number, command, "lost", f"is not a command of {target}; the line is kept"))
        lines.append(line)
    return lines, list(needed.values()), lost
