"""Whole life cycles under LoadLeveler's commands: fakes that behave as documented and really run the job file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jobs import LIMIT, missing, need

from hpcsynapse.runs.directory import RunDirectory

FAKES = Path(__file__).parents[1] / "fakes"
TRAIN = ["--ranks-per-node", "2", "--model", "simple-cnn", "--data", "digits", "--epochs", "1", "--batch", "128"]
ENDED = ("FINISHED", "STOPPED", "FAILED", "LOST")


class Login:
    """Somebody at a login node of a LoadLeveler cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "LOADL"))}
        self.env = {
            **clean,
            "PATH": f"{FAKES}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "FAKE_LL_STATE": str(folder / "state"),
            "HPCSYNAPSE_RUNS": str(folder / "runs"),
            "OMP_NUM_THREADS": "1",
            "FAKE_LL_DELAY": "0.5",
        }

    def call(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(words, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def hpcsynapse(self, *words: str, code: int = 0) -> str:
        return self.call(sys.executable, "-m", "hpcsynapse", *words, code=code).stdout

    def submit(self, name: str, *words: str) -> str:
        told = self.hpcsynapse("submit", "--json", "--scheduler", "loadleveler", "--name", name, *words)
        return str(json.loads(told)["job_id"])

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.hpcsynapse("status", "--json", name))[0]
        return found

    def wait(self, name: str, *states: str) -> tuple[dict[str, Any], list[str]]:
        """Wait for a state; return the status and all states seen on the way."""
        limit, seen = time.monotonic() + LIMIT, list[str]()
        while True:
            status = self.status(name)
            if status["state"] not in seen:
                seen.append(status["state"])
            if status["state"] in states:
                return status, seen
            assert status["state"] not in ENDED and time.monotonic() < limit, (status, self.log(name))
            time.sleep(0.1)

    def log(self, name: str) -> str:
        return "\n".join(path.read_text() for path in (self.folder / "runs" / name / "logs").glob("*"))


@pytest.fixture
def login(tmp_path: Path) -> Any:
    somebody = Login(tmp_path)
    yield somebody
    for path in (tmp_path / "state").glob("job-*.json"):
        for step in json.loads(path.read_text())["steps"]:
            subprocess.run([FAKES / "llcancel", step["id"]], env=somebody.env, capture_output=True)


@pytest.mark.parametrize("launcher", ["mpiexec", "poe", "mpirun"])
def test_digits_are_trained_with_two_ranks(login: Login, launcher: str) -> None:
    if launcher == "mpiexec" and not shutil.which("mpiexec.hydra"):
        missing("mpiexec.hydra is not installed (package mpich)")
    if launcher == "mpirun":
        need("mpi")
    engine = {"mpirun": "mpi"}.get(launcher, "ddp")
    job_id = login.submit("digits", "--launcher", launcher, "--engine", engine, *TRAIN)
    assert job_id == "fakell.1.0"
    status, _ = login.wait("digits", "FINISHED")
    states = [record["state"] for record in RunDirectory(login.folder / "runs" / "digits").read_history()]
    assert states[:3] == ["CREATED", "QUEUED", "SETUP"] and "TRAINING" in states
    assert (status["exit_code"], status["progress"]["epoch"]) == (0, 1)
    placement = json.loads((login.folder / "runs" / "digits" / "placement.json").read_text())
    source = {"mpiexec": "hydra", "poe": "poe", "mpirun": "openmpi"}[launcher]
    assert [(one["rank"], one["local_rank"], one["source"]) for one in placement["ranks"]] == [
        (0, 0, source),
        (1, 1, source),
    ]
    run = RunDirectory(login.folder / "runs" / "digits")
    assert len(list(run.timings.glob("*.steps"))) >= 1


def test_a_run_is_cancelled_while_it_waits_and_while_it_runs(login: Login) -> None:
    login.env["FAKE_LL_DELAY"] = "600"
    login.submit("waits", "--launcher", "poe", "--", "sleep", "60")
    assert login.status("waits")["state"] == "QUEUED"
    login.hpcsynapse("cancel", "waits")
    assert login.wait("waits", "STOPPED")[0]["reason"] == "cancelled"
    login.env["FAKE_LL_DELAY"] = "0"
    login.submit("runs", "--launcher", "poe", "--", "sleep", "60")
    login.wait("runs", "TRAINING")
    login.hpcsynapse("cancel", "runs")
    assert login.wait("runs", "STOPPED")[0]["reason"] == "cancelled"


def test_a_rank_that_fails_is_named(login: Login) -> None:
    login.env["FAKE_LL_DELAY"] = "0"
    script = "import os, sys; sys.exit(3 if os.environ['RANK'] == '1' else 0)"
    login.submit("fails", "--ranks-per-node", "2", "--launcher", "poe", "--", sys.executable, "-c", script)
    status, _ = login.wait("fails", "FAILED")
    assert status["exit_code"] == 3 and "rank 1" in status["reason"]


def test_what_llsubmit_refuses_is_told(login: Login) -> None:
    job = login.folder / "job.ll"
    job.write_text("# @ node = 2\n# @ queue\ntrue\n")
    done = login.call("llsubmit", str(job), code=1)
    assert "node is refused by LoadLeveler" in done.stderr
    assert "llsubmit: This job has not been submitted to LoadLeveler." in done.stderr
    assert login.call("llq", "-r", "%id", "%st").stdout == "llq: There is currently no job status to report.\n"
