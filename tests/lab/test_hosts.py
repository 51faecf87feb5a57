"""Machines reached by ssh, without a queue: real sshd on virtual machines, from submission to reports."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from researcher import TELL, Researcher, Run, at_login
from ssh_lab import LOGIN, SshLab, brought_up
from waiting import wait_until

pytestmark = pytest.mark.lab

# A program that stays until it is told to end, and says so.
PATIENT = """
import os, pathlib, signal, sys, time
here = pathlib.Path(os.environ["HPCSYNAPSE_RUN_DIR"])
def end(number, frame):
    (here / f"told-{os.environ['RANK']}").write_text(str(number))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(here / f"gpus-{os.environ['RANK']}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
(here / f"here-{os.environ['RANK']}").touch()
time.sleep(3000)
"""


class User(Researcher):
    """Somebody who knows the machines and may log in there."""

    __slots__ = ()

    def call(self, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return Researcher.call(self, LOGIN, *argv, **more)

    def story(self, run: Run, status: dict[str, Any]) -> str:
        logs = "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in run.path.glob("logs/*"))
        return f"{status['state']}: {status['reason']}\n{logs}"

    def patient(self, name: str, *argv: str, ranks: int) -> Run:
        """Submit a run that stays, and wait until all its ranks have begun."""
        self.script("patient.py", PATIENT)
        run = self.submit("--name", name, *argv, "--", "python", "patient.py")
        wait_until(lambda: all((run.path / f"here-{rank}").exists() for rank in range(ranks)), 300, "all ranks began")
        return run


@pytest.fixture(scope="module")
def lab() -> Iterator[SshLab]:
    with brought_up() as machines:
        yield machines


@pytest.fixture
def user(lab: SshLab, tmp_path: Path) -> Iterator[User]:
    somebody = at_login(lab, tmp_path / "user")
    site = tmp_path / "site.toml"
    (tmp_path / "machines").write_text(f"{lab.nodes[0]}:4\n{lab.nodes[1]} slots=4  # the other one\n")
    site.write_text(f'[queue]\nscheduler = "hosts"\nhosts_file = "{tmp_path / "machines"}"\n')
    it = User(lab=lab, folder=somebody.folder, env=somebody.env | {"HPCSYNAPSE_SITE": str(site)})
    yield it
    for run in (it.folder / "runs").glob("*"):
        if not (run / "exit.json").exists():
            it.attempt("cancel", run.name)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["mpirun", "torchrun", "local"])
def test_two_hosts_with_two_ranks_are_trained(lab: SshLab, user: User, launcher: str) -> None:
    shape = ("--nodes", "2", "--gpus", "2", "--model", "simple-cnn", "--data", "digits", "--batch", "32")
    engine = ("--launcher", launcher, "--engine", "ddp", "--steps", "6", "--name", launcher)
    run, done = user.follow(*shape, *engine, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("FINISHED")
    ranks = run.file("placement.json")["ranks"]
    assert [one["host"] for one in ranks] == [lab.nodes[0]] * 2 + [lab.nodes[1]] * 2
    assert [one["cuda_visible_devices"] for one in ranks] == ["0", "1"] * 2  # each its own


@pytest.mark.slow
@pytest.mark.horovod
def test_horovodrun_trains_on_two_hosts(lab: SshLab, user: User) -> None:
    shape = ("--nodes", "2", "--ranks-per-node", "2", "--model", "simple-cnn", "--data", "digits", "--batch", "32")
    run, done = user.follow(*shape, "--launcher", "horovodrun", "--steps", "6", "--name", "h", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr + run.text("logs/job.log")
    assert [one["host"] for one in run.file("placement.json")["ranks"]] == [lab.nodes[0]] * 2 + [lab.nodes[1]] * 2


@pytest.mark.parametrize("launcher", ["mpirun", "mpiexec", "local"])
def test_environment_gpus_and_hosts_reach_every_rank(lab: SshLab, user: User, launcher: str) -> None:
    user.script("tell.py", TELL)
    run, done = user.follow(
        "--nodes",
        "2",
        "--gpus",
        "2",
        "--launcher",
        launcher,
        "--name",
        launcher,
        "--env",
        "SAID=a b;$c",
        "--",
        "python",
        "tell.py",
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = run.by_rank(4)
    assert [one["host"] for one in told] == [lab.nodes[0]] * 2 + [lab.nodes[1]] * 2
    assert [one["env"]["LOCAL_RANK"] for one in told] == ["0", "1"] * 2
    assert {one["env"]["SAID"] for one in told} == {"a b;$c"} and {one["cwd"] for one in told} == {str(user.folder)}
    assert {one["env"]["CUDA_VISIBLE_DEVICES"] for one in told} == {"0,1"}


def test_check_looks_at_every_host(lab: SshLab, user: User) -> None:
    done = user.attempt("check", "--nodes", "2", "--gpus", "2", "--", "true")
    assert done.returncode == 0, done.stdout
    for node in lab.nodes:
        assert f"ok       host {node}: " in done.stdout
    done = user.attempt("check", "--gpus", "2", "--host", "nosuch.invalid", "--runs", "/dev/shm/runs", "--", "true")
    assert done.returncode != 0 and "ERROR    host nosuch.invalid: ssh: Could not resolve" in done.stdout
    assert "/dev/shm is another folder there" in done.stdout


def test_a_program_that_fails(lab: SshLab, user: User) -> None:
    user.script("fails.py", "import os, sys\nsys.exit(7 if os.environ['RANK'] == '3' else 0)\n")
    shape = ("--nodes", "2", "--ranks-per-node", "2", "--launcher", "local", "--name", "fails")
    run, done = user.follow(*shape, "--", "python", "fails.py", timeout=400)
    assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith("FAILED")
    status = user.status(run)
    assert (status["state"], status["exit_code"], status["failure"]["rank"]) == ("FAILED", 7, 3)


@pytest.mark.parametrize("launcher", ["mpirun", "local"])
def test_a_run_that_is_cancelled_is_told_on_all_hosts(lab: SshLab, user: User, launcher: str) -> None:
    run = user.patient("c", "--nodes", "2", "--gpus", "2", "--launcher", launcher, ranks=4)
    assert user.status(run)["state"] == "TRAINING"
    user.hpcsynapse("cancel", "c")
    wait_until(lambda: user.status(run)["state"] == "STOPPED", 180, "the run is STOPPED")
    assert [run.text(f"told-{rank}") for rank in range(4)] == ["15"] * 4
    assert run.file("exit.json")["signal"] == "TERM"
    for index in (1, 2):
        wait_until(lambda index=index: not lab.processes(index, run), 180, "nothing of it goes on")  # type: ignore[misc]


def test_the_time_limit(user: User) -> None:
    user.script("patient.py", PATIENT)
    shape = ("--nodes", "2", "--launcher", "local", "--time", "00:00:20", "--name", "late")
    run = user.submit(*shape, "--", "python", "patient.py")
    wait_until(lambda: user.status(run)["state"] in ("STOPPED", "FAILED"), 300, "the run has ended")
    assert "time limit" in user.status(run)["reason"]


def test_two_jobs_do_not_share_gpus_and_a_lock_dies_with_its_job(lab: SshLab, user: User) -> None:
    both = ("--nodes", "2", "--gpus", "3", "--launcher", "local")
    first = user.patient("first", *both, ranks=6)
    small = user.patient("small", "--gpus", "1", "--launcher", "local", ranks=1)
    assert (first.text("gpus-0"), small.text("gpus-0")) == ("0,1,2", "3")
    second = user.submit("--name", "second", *both, "--", "python", "patient.py")
    wait_until(lambda: "waits for 3 free GPUs" in second.text("logs/job.log"), 180, "the second job waits")
    assert user.status(second)["state"] == "QUEUED"
    host, pid, _ = first.job_id.split(":")
    lab.run("ssh", host, "kill", "-KILL", pid)
    wait_until(lambda: all((second.path / f"here-{rank}").exists() for rank in range(6)), 300, "the second job runs")
    assert second.text("gpus-0") == "0,1,2"
    assert user.status(first)["state"] in ("FAILED", "STOPPED")  # its script has noticed, and ended in order


@pytest.mark.slow
def test_a_first_host_that_is_killed(lab: SshLab, user: User) -> None:
    run = user.patient("lost", "--nodes", "2", "--gpus", "4", "--launcher", "local", ranks=8)
    lab.node("crash", 1)
    try:
        status = user.status(run)
        assert status["native_state"] == "NO_ANSWER" and status["state"] in ("TRAINING", "UNKNOWN")
        assert f"host {lab.nodes[0]}" in status["reason"]
        wait_until(lambda: not lab.processes(2, run), 400, "the other host has ended what was left of it")
    finally:
        lab.node("start", 1)
    wait_until(lambda: lab.run("ssh", "-o", "ConnectTimeout=5", lab.nodes[0], "echo up") == "up\n", 180, "it is up")
    wait_until(lambda: user.status(run)["state"] == "LOST", 180, "the run is LOST")
    again = user.patient("again", "--nodes", "2", "--gpus", "4", "--launcher", "local", ranks=8)
    user.hpcsynapse("cancel", again.name)
    assert json.loads((run.path / "submission.json").read_text())["job_id"] == run.job_id


@pytest.mark.slow
def test_another_host_that_is_killed_ends_the_job(lab: SshLab, user: User) -> None:
    run = user.patient("half", "--nodes", "2", "--gpus", "4", "--launcher", "local", ranks=8)
    lab.node("crash", 2)
    try:
        wait_until(lambda: user.status(run)["state"] == "FAILED", 400, "the run has failed")
        assert f"on {lab.nodes[1]}" in run.text("logs/job.log") or "no longer answers" in run.text("logs/job.log")
    finally:
        lab.node("start", 2)
    wait_until(lambda: lab.run("ssh", "-o", "ConnectTimeout=5", lab.nodes[1], "echo up") == "up\n", 180, "it is up")
