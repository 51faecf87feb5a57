"""`--launcher-arg`: what a site needs of mpirun and the like goes to their own command, quoted, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.render import render


def launch_line(queue: str, launcher: str, *arguments: str) -> str:
    table: dict[str, Any] = {
        "name": "x",
        "command": ["true"],
        "queue": {"scheduler": queue},
        "resources": {"ranks_per_node": 2},
        "launch": {"launcher": launcher, "launcher_args": list(arguments)},
        "site": {"parallel_environment": "mpi-{slots}"},
    }
    lines = render(JobSpec.from_dict(table), Path("/runs/x")).splitlines()
    return lines[next(number for number, line in enumerate(lines) if line == "hpcs_launcher=$!") - 1]


@pytest.mark.parametrize(
    ("queue", "launcher", "begins"),
    [
        ("gridengine", "mpirun", "mpirun -mca plm_rsh_args '-p 17992; $(no)' -np 2"),
        ("pbs", "mpirun", "mpirun -mca plm_rsh_args '-p 17992; $(no)' -np 2"),
        ("slurm", "srun", "srun -mca plm_rsh_args '-p 17992; $(no)' --nodes=1"),
        ("flux", "mpiexec", "\"$HPCSYNAPSE_MPIEXEC\" -mca plm_rsh_args '-p 17992; $(no)' -f"),
    ],
)
def test_arguments_come_first(queue: str, launcher: str, begins: str) -> None:
    assert launch_line(queue, launcher, "-mca", "plm_rsh_args", "-p 17992; $(no)").startswith(begins)


@pytest.mark.parametrize("launcher", ["torchrun", "greasy"])
def test_launchers_without_a_command_of_their_own_take_none(launcher: str) -> None:
    with pytest.raises(SpecError, match="--launcher-arg"):
        launch_line("slurm", launcher, "-v")
