"""The Slurm lab as a fixture: a real Slurm cluster of virtual nodes for as long as the tests run."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from researcher import Researcher, at_login

SCRIPTS = Path(__file__).parents[2] / "scripts" / "slurm-lab"
COMMANDS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "tc", "nsenter", "unshare")

# Short, because the paths of unix sockets are limited: pytest's own temporary folder is too deep.
LAB_PARENT = Path("/tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmLab:
    """A lab that is up: its name, its configuration and the environment that reaches it."""

    name: str
    conf: Path
    env: dict[str, str]
    nodes: int = 4
    gpus: int = 4
    scripts: Path = SCRIPTS

    def attempt(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command as a client of the lab, whatever its exit code."""
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=timeout)

    def run(self, *argv: str, timeout: float = 60) -> str:
        """Run a command as a client of the lab and return what it prints; fail with its stderr."""
        done = self.attempt(*argv, timeout=timeout)
        if done.returncode != 0:
            pytest.fail(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def submit(self, *argv: str) -> str:
        """Submit with sbatch and return the job's id."""
        return self.run("sbatch", "--parsable", *argv).strip().partition(";")[0]

    def node(self, command: str, index: int) -> None:
        """Start, crash or stop the node of that number, from 1."""
        self.run(str(SCRIPTS / "node"), command, str(index))

    def node_name(self, index: int) -> str:
        """Slurm's name of the node of that number, from 1."""
        return f"{self.name}{index}"

    def node_states(self) -> dict[str, str]:
        """Slurm's state of each node, with its flags: idle, mixed*, down, ..."""
        lines = self.run("sinfo", "-h", "-N", "-p", "debug", "-o", "%N %T").splitlines()
        return dict(line.split() for line in lines)

    def job(self, job_id: str) -> dict[str, str]:
        """The fields of `scontrol show job`."""
        text = self.run("scontrol", "-o", "show", "job", job_id)
        return dict(re.findall(r"(\S+?)=(.*?)(?=\s+[A-Z][\w/:]*=|\s*$)", text))

    def wait_until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Poll until the condition holds; fail with the lab's state when it does not in time."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout:g} s: {what}\n{self.run(str(SCRIPTS / 'status'))}")
            time.sleep(0.1)

    def wait_state(self, job_id: str, *states: str, timeout: float = 60) -> dict[str, str]:
        """Wait until the job is in one of the states; return its fields."""
        self.wait_until(
            lambda: self.job(job_id)["JobState"] in states, timeout, f"job {job_id} in {' or '.join(states)}"
        )
        return self.job(job_id)

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until all nodes are idle and no job is left."""
        self.wait_until(
            lambda: list(self.node_states().values()) == ["idle"] * self.nodes and not self.run("squeue", "-h").strip(),
            timeout,
            f"{self.nodes} idle nodes and an empty queue",
        )


def why_no_lab() -> str | None:
    """Say why Slurm cannot run here, or None if it can."""
    if os.geteuid() != 0:
        return "the Slurm lab needs root, to make network namespaces and device files"
    if missing := [command for command in COMMANDS if shutil.which(command) is None]:
        return f"the Slurm lab needs {', '.join(missing)} (scripts/setup test installs them)"
    trial = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    if trial.returncode != 0:
        return f"the Slurm lab needs network, mount and process namespaces: {trial.stderr.strip()}"
    return None


def client_environment(name: str) -> dict[str, str]:
    """Our environment without traces of a job that we may be part of, and with the lab's name."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_", "PMI"))}
    return env | {
        "LAB": name,
        "TMPDIR": str(LAB_PARENT),
        "SLURM_CONF": str(LAB_PARENT / f"slurm-lab-{name}" / "slurm.conf"),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }


def sweep_abandoned_labs() -> None:
    """Take down the labs of test sessions that were killed before they could."""
    for folder in LAB_PARENT.glob("slurm-lab-t*"):
        owner = re.fullmatch(r"slurm-lab-(t(\d+)[xyz])", folder.name)
        if owner and not Path("/proc", owner[2]).exists():
            subprocess.run([SCRIPTS / "down", "--lab", owner[1]], env=client_environment(""), check=True)


@contextmanager
def lab_of(letter: str, nodes: int, gpus: int, *options: str) -> Iterator[SlurmLab]:
    """Bring up a lab for as long as the block runs; its name has our pid, so that sessions never meet."""
    if reason := why_no_lab():
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    sweep_abandoned_labs()
    env = client_environment(f"t{os.getpid()}{letter}")
    lab = SlurmLab(name=env["LAB"], conf=Path(env["SLURM_CONF"]), env=env, nodes=nodes, gpus=gpus)
    try:
        up = [SCRIPTS / "up", "--nodes", str(nodes), "--gpus", str(gpus), *options]
        done = subprocess.run(up, env=env, capture_output=True, text=True, timeout=180)
        if done.returncode != 0:
            pytest.fail(f"the Slurm lab did not come up:\n{done.stderr}", pytrace=False)
        yield lab
    finally:
        subprocess.run([SCRIPTS / "down"], env=env, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="session")
def slurm_lab() -> Iterator[SlurmLab]:
    """A lab of 4 nodes with 4 GPUs each."""
    with lab_of("x", 4, 4) as lab:
        yield lab


@pytest.fixture(scope="module")
def other_cluster() -> Iterator[SlurmLab]:
    """A second cluster, of one node without GPUs."""
    with lab_of("y", 1, 0) as lab:
        yield lab


@pytest.fixture(scope="module")
def confined_lab() -> Iterator[SlurmLab]:
    """A lab whose tasks see the cores and GPUs of their job alone."""
    with lab_of("z", 2, 4, "--confine") as lab:
        yield lab


@pytest.fixture
def user(slurm_lab: SlurmLab, tmp_path: Path) -> Iterator[Researcher]:
    """Somebody who uses the lab; whatever they left in the queue is cancelled."""
    somebody = at_login(slurm_lab, tmp_path / "user")
    yield somebody
    somebody.leave()
