"""Jobs on two virtual machines under stand-ins for PBS, LSF and Flux, which reach the other one as the real ones do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from researcher import TELL, Researcher, Run, at_login
from ssh_lab import LOGIN, SshLab, brought_up
from waiting import wait_until

pytestmark = pytest.mark.lab

FAKES = Path(__file__).parents[1] / "fakes"
TWO = ("--nodes", "2", "--ranks-per-node", "2")
TRAINING = ("--model", "simple-cnn", "--data", "digits", "--batch", "32", "--steps", "3", "--device", "cpu")


class User(Researcher):
    """Somebody whose commands run where the machines are known."""

    __slots__ = ()

    def call(self, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return Researcher.call(self, LOGIN, *argv, **more)

    def story(self, run: Run, status: dict[str, Any]) -> str:
        return f"{status['state']}: {status['reason']}\n{run.text('logs/job.log')}"


@pytest.fixture(scope="module")
def lab() -> Iterator[SshLab]:
    with brought_up() as machines:
        yield machines


@pytest.fixture(params=["pbs", "lsf", "flux"])
def user(lab: SshLab, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[User]:
    somebody = at_login(lab, tmp_path / "user")
    site, home, state = tmp_path / "site.toml", tmp_path / "home", tmp_path / "state"
    home.mkdir()
    site.write_text(f'[site]\nname = "fake"\n[queue]\nscheduler = "{request.param}"\n')
    yield User(
        lab=lab,
        folder=somebody.folder,
        env=somebody.env
        | {
            "PATH": f"{FAKES / request.param}:{somebody.env['PATH']}",
            "FAKE_PYTHON": sys.executable,
            "FAKE_BATCH_STATE": str(state),
            "FAKE_BATCH_HOSTS": " ".join(lab.nodes),
            "HOME": str(home),
            "HPCSYNAPSE_SITE": str(site),
        },
    )
    for path in state.glob("job-*.json"):
        (state / f"cancel-{path.stem.removeprefix('job-')}").touch()


def hosts_of(run: Run) -> list[str]:
    return [one["host"] for one in run.file("placement.json")["ranks"]]


def test_environment_and_hosts_reach_every_rank(lab: SshLab, user: User) -> None:
    tell_from_two_nodes(lab, user, "mpirun")


@pytest.mark.slow
def test_hydra_reaches_every_rank(lab: SshLab, user: User) -> None:
    tell_from_two_nodes(lab, user, "mpiexec")


def tell_from_two_nodes(lab: SshLab, user: User, launcher: str) -> None:
    """Every rank tells where it is and what it knows, and that is what was asked for."""
    user.script("tell.py", TELL)
    words = ("--launcher", launcher, "--env", "SAID=a b;$c", "--", "python", "tell.py")
    run, done = user.follow(*TWO, "--name", launcher, *words, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr + run.text("logs/job.log")
    told = run.by_rank(4)
    assert [one["env"]["NODE_RANK"] for one in told] == ["0", "0", "1", "1"]
    assert [one["host"] for one in told] == [lab.nodes[0]] * 2 + [lab.nodes[1]] * 2
    assert {one["env"]["SAID"] for one in told} == {"a b;$c"}


@pytest.mark.slow
def test_parameter_servers_on_two_nodes(lab: SshLab, user: User) -> None:
    run, done = user.follow(*TWO, "--strategy", "ps-sync", *TRAINING, "--name", "ps", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr + run.text("logs/job.log")
    assert done.stdout.splitlines()[-1].startswith("FINISHED")
    assert {one["host"] for one in run.file("placement.json")["ranks"]} == set(lab.nodes)


def test_a_program_that_fails_on_the_other_node(lab: SshLab, user: User) -> None:
    user.script("fails.py", "import os, sys\nsys.exit(7 if os.environ['RANK'] == '3' else 0)\n")
    run, done = user.follow(*TWO, "--launcher", "torchrun", "--name", "f", "--", "python", "fails.py", timeout=300)
    status = user.status(run)
    assert (status["state"], status["exit_code"], status["failure"]["rank"]) == ("FAILED", 7, 3), done.stdout


def test_a_packed_study_runs_on_parts_of_the_job(lab: SshLab, user: User) -> None:
    user.script("tell.py", TELL)
    words = ("--jobs", "packed", "--time", "2m", "--launcher", "mpirun", "--", "python", "tell.py")
    user.hpcsynapse("study", "--name", "p", "--nodes", "1,2", *words)

    def rows() -> list[dict[str, Any]]:
        return list(json.loads(user.hpcsynapse("status", "--json", "runs/p")))

    wait_until(
        lambda: {one["state"] for one in rows()} <= {"FINISHED", "FAILED", "STOPPED"}, 240, "the study has ended"
    )
    found = [Run(name="", job_id=row["job_id"], path=Path(row["path"])) for row in rows()]
    assert {row["state"] for row in rows()} == {"FINISHED"}, [run.text("logs/job.log") for run in found]
    hosts = [[one["host"] for one in run.by_rank(len(list(run.path.glob("told-*.json"))))] for run in found]
    assert sorted(hosts, key=len) == [[lab.nodes[0]], list(lab.nodes)]
    assert len({run.job_id for run in found}) == 1
