"""Virtual machines that are reached by ssh, for as long as tests of a module run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from researcher import Run

SCRIPTS = Path(__file__).parents[2] / "scripts" / "ssh-lab"
LOGIN = str(SCRIPTS / "login")
TOOLS = ("ssh", "ssh-keygen", "/usr/sbin/sshd", "ip", "ss", "nsenter", "unshare", "mpirun")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshLab:
    """A lab that is up, the environment that names it, and its machines."""

    env: dict[str, str]
    nodes: tuple[str, str]

    def run(self, *argv: str) -> str:
        """Run a command where the machines are known; what it prints."""
        done = subprocess.run([LOGIN, *argv], env=self.env, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    def node(self, command: str, index: int) -> None:
        """Start or crash a machine."""
        subprocess.run([SCRIPTS / "node", command, str(index)], env=self.env, check=True, timeout=120)

    def processes(self, index: int, run: Run) -> list[str]:
        """What goes on of a run on a machine."""
        look = f"grep -lsz HPCSYNAPSE_RUN_DIR={run.path} /proc/[0-9]*/environ"
        return self.run("ssh", self.nodes[index - 1], look).split()


def why_no_lab() -> str | None:
    if os.geteuid() != 0:
        return "the lab of machines with ssh needs root, to make network namespaces"
    if missing := [command for command in TOOLS if not shutil.which(command)]:
        return f"the lab of machines with ssh needs {', '.join(missing)} (scripts/setup test installs them)"
    trial = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return None if trial.returncode == 0 else f"the lab of machines with ssh needs namespaces: {trial.stderr.strip()}"


@contextmanager
def brought_up() -> Iterator[SshLab]:
    """A lab of two machines; skips, or under CI fails, where there can be none."""
    if reason := why_no_lab():
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    name = f"s{os.getpid()}h"
    own = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SGE_", "PMI"))}
    env = own | {"LAB": name, "TMPDIR": "/tmp"}
    try:
        done = subprocess.run([SCRIPTS / "up"], env=env, capture_output=True, text=True, timeout=400)
        if done.returncode != 0:
            pytest.fail(f"the lab of machines with ssh did not come up:\n{done.stderr}", pytrace=False)
        yield SshLab(env=env, nodes=(f"{name}1", f"{name}2"))
    finally:
        subprocess.run([SCRIPTS / "down"], env=env, check=True, capture_output=True, timeout=120)
