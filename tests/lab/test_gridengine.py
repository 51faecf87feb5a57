"""A real Grid Engine of two virtual nodes, from submission to reports: what its adapter and its templates are worth."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from researcher import SLOW_MODEL, TELL, Researcher, Run, at_login
from waiting import wait_until

pytestmark = pytest.mark.lab

SCRIPTS = Path(__file__).parents[2] / "scripts" / "gridengine-lab"
PROGRAMS = Path(__file__).parents[2] / ".venv" / "gridengine" / "usr" / "lib" / "gridengine"
LOGIN = str(SCRIPTS / "login")
SITE = """
[site]
name = "lab"
max_nodes = 2
gpus_per_node = 4
parallel_environment = "mpi-{slots}"
[queue]
scheduler = "gridengine"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEngineLab:
    """A lab that is up, and the environment that names it."""

    env: dict[str, str]
    nodes: tuple[str, str] = field(default=("", ""))

    def run(self, *argv: str) -> str:
        """Run a command of Grid Engine; what it prints."""
        done = subprocess.run([LOGIN, *argv], env=self.env, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr


class User(Researcher):
    """Somebody whose commands run where the names of the lab are known."""

    __slots__ = ()

    def call(self, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return Researcher.call(self, LOGIN, *argv, **more)

    def find_all(self) -> list[dict[str, Any]]:
        """What `hpcsynapse status` says of all runs."""
        found: list[dict[str, Any]] = json.loads(self.hpcsynapse("status", "--json", "runs/s"))
        return found

    def story(self, run: Run, status: dict[str, Any]) -> str:
        logs = "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in run.path.glob("logs/*"))
        return f"{status['state']}: {status['reason']}\n{logs}\n{self.lab.run('qstat', '-f')}"


def why_no_lab() -> str | None:
    if os.geteuid() != 0:
        return "the Grid Engine lab needs root, to make network namespaces"
    if not (PROGRAMS / "sge_qmaster").exists():
        return f"the Grid Engine lab needs {PROGRAMS} (scripts/setup test gets it from Debian's packages)"
    if missing := [command for command in ("ip", "ss", "nsenter", "unshare", "mpirun") if not shutil.which(command)]:
        return f"the Grid Engine lab needs {', '.join(missing)} (scripts/setup test installs them)"
    trial = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return None if trial.returncode == 0 else f"the Grid Engine lab needs namespaces: {trial.stderr.strip()}"


@pytest.fixture(scope="module")
def lab() -> Iterator[GridEngineLab]:
    if reason := why_no_lab():
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    name = f"g{os.getpid()}e"
    own = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SGE_", "PMI"))}
    env = own | {"LAB": name, "TMPDIR": "/tmp"}
    try:
        done = subprocess.run([SCRIPTS / "up"], env=env, capture_output=True, text=True, timeout=400)
        if done.returncode != 0:
            pytest.fail(f"the Grid Engine lab did not come up:\n{done.stderr}", pytrace=False)
        yield GridEngineLab(env=env, nodes=(f"{name}1", f"{name}2"))
    finally:
        subprocess.run([SCRIPTS / "down"], env=env, check=True, capture_output=True, timeout=120)


@pytest.fixture
def user(lab: GridEngineLab, tmp_path: Path) -> Iterator[User]:
    somebody = at_login(lab, tmp_path / "user")
    site = tmp_path / "site.toml"
    site.write_text(SITE)
    yield User(lab=lab, folder=somebody.folder, env=somebody.env | {"HPCSYNAPSE_SITE": str(site)})
    lab.run("qdel", "-u", "root")


def queue_is_empty(lab: GridEngineLab) -> bool:
    return "job-ID" not in lab.run("qstat")


@pytest.mark.slow
def test_two_nodes_with_two_ranks_are_trained(lab: GridEngineLab, user: User) -> None:
    shape = ("--nodes", "2", "--ranks-per-node", "2", "--model", "simple-cnn", "--data", "digits", "--batch", "32")
    run, done = user.follow(*shape, "--steps", "6", "--name", "trained", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("FINISHED")
    ranks = run.file("placement.json")["ranks"]
    assert [one["host"] for one in ranks] == [lab.nodes[0]] * 2 + [lab.nodes[1]] * 2 or [
        one["host"] for one in ranks
    ] == [lab.nodes[1]] * 2 + [lab.nodes[0]] * 2
    header, row = user.hpcsynapse("report", "trained", "--csv").splitlines()
    point = dict(zip(header.split(","), row.split(","), strict=True))
    assert (point["nodes"], point["ranks"]) == ("2", "4")


@pytest.mark.parametrize("launcher", ["mpirun", "mpiexec", "torchrun"])
def test_environment_and_hosts_reach_every_rank(lab: GridEngineLab, user: User, launcher: str) -> None:
    user.script("tell.py", TELL)
    run, done = user.follow(
        "--nodes",
        "2",
        "--ranks-per-node",
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
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = run.by_rank(4)
    assert [one["env"]["NODE_RANK"] for one in told] == ["0", "0", "1", "1"]
    assert {one["host"] for one in told} == set(lab.nodes) and {one["env"]["SAID"] for one in told} == {"a b;$c"}
    assert all(one["cwd"] == str(user.folder) for one in told)


def test_a_program_that_fails(lab: GridEngineLab, user: User) -> None:
    user.script("fails.py", "import os, sys\nsys.exit(7 if os.environ['RANK'] == '3' else 0)\n")
    run, done = user.follow("--nodes", "2", "--ranks-per-node", "2", "--name", "fails", "--", "python", "fails.py")
    assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith("FAILED")
    status = user.status(run)
    assert (status["state"], status["exit_code"], status["failure"]["rank"]) == ("FAILED", 7, 3)


PATIENT = """
import os, pathlib, signal, sys, time
here = pathlib.Path(os.environ["HPCSYNAPSE_RUN_DIR"])
def end(number, frame):
    (here / f"told-{os.environ['RANK']}").write_text(str(number))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(here / f"here-{os.environ['RANK']}").touch()
time.sleep(3000)
"""


def begun(user: User, run: Run, ranks: int) -> None:
    wait_until(lambda: all((run.path / f"here-{rank}").exists() for rank in range(ranks)), 180, "all ranks began")


def test_a_run_that_is_cancelled_is_told_on_all_nodes(lab: GridEngineLab, user: User) -> None:
    user.script("patient.py", PATIENT)
    run = user.submit("--nodes", "2", "--ranks-per-node", "2", "--name", "c", "--", "python", "patient.py")
    begun(user, run, 4)
    assert user.status(run)["state"] == "TRAINING"
    user.hpcsynapse("cancel", "c")
    wait_until(lambda: user.status(run)["state"] == "STOPPED", 180, "the run is STOPPED")
    assert [run.text(f"told-{rank}") for rank in range(4)] == ["15"] * 4
    assert run.file("exit.json")["signal"] == "TERM"
    wait_until(lambda: queue_is_empty(lab), 120, "the queue is empty")
    assert user.status(run)["state"] == "STOPPED"


def test_the_time_limit_and_what_a_job_leaves_behind_it(lab: GridEngineLab, user: User) -> None:
    user.script("patient.py", PATIENT)
    run = user.submit("--ranks-per-node", "2", "--time", "00:00:20", "--name", "late", "--", "python", "patient.py")
    wait_until(lambda: user.status(run)["state"] in ("STOPPED", "FAILED"), 240, "the run has ended")
    wait_until(lambda: "time limit" in user.status(run)["reason"], 120, "its reason is the limit")


def test_a_signal_before_the_limit_saves_a_training(lab: GridEngineLab, user: User) -> None:
    user.script("slow_model.py", SLOW_MODEL)
    run, done = user.follow(
        "--model",
        "slow_model:Slow",
        "--data",
        "digits",
        "--steps",
        "100000",
        "--time",
        "00:10:00",
        "--signal",
        "USR1@560",
        "--name",
        "saved",
        timeout=500,
    )
    assert done.stdout.splitlines()[-1].startswith("STOPPED"), done.stdout + done.stderr
    assert "signal USR1" in user.status(run)["reason"]
    assert list((run.path / "checkpoints").iterdir())


def test_a_study_is_an_array(lab: GridEngineLab, user: User) -> None:
    user.script("quick.py", "print('quick')\n")
    user.hpcsynapse(
        "study",
        "--name",
        "s",
        "--ranks-per-node",
        "1,2",
        "--repeats",
        "2",
        "--jobs",
        "array",
        "--no-chain",
        "--",
        "python",
        "quick.py",
        timeout=300,
    )
    rows = user.find_all()
    assert len({row["job_id"].partition(".")[0] for row in rows}) < len(rows)
    wait_until(lambda: {row["state"] for row in user.find_all()} == {"FINISHED"}, 300, "all runs have finished")


def test_a_packed_study_runs_on_parts_of_the_job(lab: GridEngineLab, user: User) -> None:
    user.script("tell.py", TELL)
    words = ("--jobs", "packed", "--time", "2m", "--", "python", "tell.py")
    user.hpcsynapse("study", "--name", "s", "--nodes", "1,2", *words, timeout=300)
    wait_until(lambda: {row["state"] for row in user.find_all()} == {"FINISHED"}, 300, "all runs have finished")
    told = [len(list(Path(row["path"]).glob("told-*.json"))) for row in user.find_all()]
    assert sorted(told) == [1, 2] and len({row["job_id"] for row in user.find_all()}) == 1


def test_a_task_list_is_run_on_both_nodes(lab: GridEngineLab, user: User) -> None:
    lines = (
        "#$ -S /bin/bash",
        "#$ -cwd -V -j y -o list.log -pe mpi-1 2",
        "hpcsynapse greasy farm --grid n=1,2,3,4 -- sh -c 'hostname; sleep 2; exit $(({n} == 3))'",
        "hpcsynapse greasy run farm/tasks.greasy --json > run.json",
        "echo ended with $?",
    )
    user.script("list.sh", "\n".join(lines) + "\n")
    said = user.call("qsub", "-terse", "list.sh")
    assert said.returncode == 0, said.stderr
    log = user.folder / "list.log"
    wait_until(lambda: log.is_file() and "ended with" in log.read_text(), 240, "the list has ended")
    assert "ended with 1" in log.read_text(), log.read_text()
    tasks = json.loads((user.folder / "run.json").read_text())["tasks"]
    assert [(one["state"], one["exit_code"]) for one in tasks] == [("ok", 0), ("ok", 0), ("failed", 1), ("ok", 0)]
    logs = [path.read_text().split()[0] for path in sorted((user.folder / "farm" / "logs").glob("task_*.log"))]
    assert set(logs) == set(lab.nodes)


def test_a_start_that_fails_is_no_waiting(lab: GridEngineLab, user: User) -> None:
    run = user.submit("--name", "nowhere", "--directive", "-wd /nowhere/at/all", "--", "true")
    wait_until(lambda: user.status(run)["native_state"] == "Eqw", 120, "Grid Engine says Eqw")
    status = user.status(run)
    assert status["state"] == "FAILED" and "qstat -j" in status["reason"]


def test_what_can_never_run_is_known_beforehand(lab: GridEngineLab, user: User) -> None:
    done = user.attempt("check", "--nodes", "2", "--directive", "-l gpu=99", "--", "true")
    assert done.returncode != 0 and "cannot run" in done.stdout + done.stderr
    done = user.attempt("submit", "--directive", "-q nosuch.q", "--name", "r", "--", "true")
    assert done.returncode == 1 and "nosuch.q" in done.stderr


def test_jobs_that_were_deleted_by_others_and_jobs_that_were_forgotten(lab: GridEngineLab, user: User) -> None:
    run = user.submit("--name", "held", "--directive", "-h", "--", "true")
    wait_until(lambda: user.status(run)["native_state"] == "hqw", 120, "the job is held")
    assert user.status(run)["state"] == "QUEUED"
    lab.run("qdel", run.job_id)
    wait_until(lambda: queue_is_empty(lab), 120, "the queue is empty")
    assert user.status(run)["state"] == "UNKNOWN"  # it may have ended a moment ago
    seen = json.loads((run.path / ".unlisted.json").read_text())
    (run.path / ".unlisted.json").write_text(json.dumps({**seen, "time": seen["time"] - 3600}))
    assert user.status(run)["state"] == "LOST"


def test_init_describes_the_cluster(lab: GridEngineLab, user: User) -> None:
    done = user.attempt("init", "--yes", "--out", "found.toml", env={"HPCSYNAPSE_SITE": ""})
    assert done.returncode == 0, done.stderr
    text = (user.folder / "found.toml").read_text().splitlines()
    for line in (
        "max_nodes = 2",
        "gpus_per_node = 4",
        'parallel_environment = "mpi-{slots}"',
        'scheduler = "gridengine"',
    ):
        assert line in text
