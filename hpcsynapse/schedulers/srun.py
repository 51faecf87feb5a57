"""Job steps inside a job of Slurm: the command lines of srun, and what it reads and sets (srun(1), environment)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

# Where several steps share a job they would wait for one another, and be bound to one core.
_SHARING = ["--overlap", "--cpu-bind=none", "--kill-on-bad-exit=0", "--input=none"]
SHARING = {"SLURM_OVERLAP": "1", "SLURM_CPU_BIND": "none"}
HOSTFILE = "SLURM_HOSTFILE"  # names a file with the host of every task, for --distribution=arbitrary
# Regular expression of the variables that it sets for the processes of a step.
SET_IN_STEPS = (
    r"SLURM_(?:PROCID|LOCALID|NODEID|TASK_PID|STEP_\w+|STEPID|CPU_BIND\w*|GPUS_ON_NODE|LAUNCH_NODE_IPADDR)|"
    r"SLURMD_NODENAME"
)


def one_task(host: str, program: Sequence[str]) -> list[str]:
    """Return the argv of a step that is one process on a host, beside other steps."""
    return ["srun", "--nodes=1", "--ntasks=1", f"--nodelist={host}", *_SHARING, "--quiet", *program]


def one_program_each(hosts: Sequence[str], programs: Path, folder: Path) -> list[str]:
    """Return the argv of one step whose tasks differ, task i on the i-th host; its HOSTFILE has to name them too.

    `programs` has a line for every task (srun(1), --multi-prog, --distribution).
    """
    step = ["srun", f"--nodes={len(set(hosts))}", f"--ntasks={len(hosts)}", "--distribution=arbitrary"]
    return [*step, *_SHARING, "--no-kill", "--wait=0", f"--chdir={folder}", "--multi-prog", str(programs)]


def node_count(environ: Mapping[str, str], hosts: Sequence[str]) -> dict[str, str]:
    """Return the variable that counts a job's nodes, from these hosts where no job of Slurm has set it.

    Programs that were written for Slurm want it in every job, such as Greasy with its MPI engine.
    """
    name = "SLURM_JOB_NUM_NODES"
    return {name: environ.get(name, str(len(set(hosts))))}
