"""What lies in the working directory, and what a user sets, cannot reach the job script and its helpers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # job scripts run by bash

NAMES = ("json", "socket", "signal", "typing", "uuid", "re", "math", "struct", "zlib", "torch", "numpy", "random",
         "queue", "ast", "enum", "shutil")  # fmt: skip  # a long call


def run(workdir: Path, *words: str, **environ: str) -> dict[str, object]:
    """Submit to this machine, wait for the end, and return the run's state."""
    command = [sys.executable, "-P", "-m", "hpcsynapse"]
    env = {**os.environ, **environ}
    done = subprocess.run(
        [*command, "submit", "--scheduler", "local", "--follow", "--name", "r", *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        cwd=workdir,
    )
    assert (workdir / "runs" / "r").is_dir(), done.stderr
    told = subprocess.run(
        [*command, "status", "--json", "r"], env=env, capture_output=True, text=True, timeout=60, cwd=workdir
    )
    assert told.returncode == 0, told.stderr
    found: dict[str, object] = json.loads(told.stdout)[0]
    return found


@pytest.mark.parametrize("safe_path", ["", "1"])
def test_modules_of_the_working_directory_take_no_place_of_others(workdir: Path, safe_path: str) -> None:
    for name in NAMES:
        (workdir / f"{name}.py").write_text(f"open({str(workdir / 'RAN')!r}, 'a').write('{name} ')\n")
    status = run(workdir, "--", "true", PYTHONSAFEPATH=safe_path)
    assert status["state"] == "FINISHED", status
    assert not (workdir / "RAN").exists(), (workdir / "RAN").read_text()


def test_variables_of_the_user_do_not_reach_the_job_scripts_own(workdir: Path) -> None:
    given = [
        word for name in ("run_dir=/x", "started=1", "code=7", "first_host=m", "host=n") for word in ("--env", name)
    ]
    program = '[ "$code $first_host $host $caught" = "7 m n 1" ]'
    status = run(workdir, *given, "--prelude", "export caught=1 job_id=2", "--", "bash", "-c", program)
    assert (status["state"], status["exit_code"]) == ("FINISHED", 0), status
    assert json.loads((workdir / "runs" / "r" / "exit.json").read_text())["signal"] == ""


def test_the_end_is_put_on_record_although_nothing_is_on_the_path(workdir: Path) -> None:
    status = run(workdir, "--env", "PATH=/nowhere", "--", "/bin/true")
    ended = json.loads((workdir / "runs" / "r" / "exit.json").read_text())
    assert (status["state"], ended["exit_code"]) == ("FAILED", 127) and ended["time"] >= ended["start"]


def test_a_value_does_not_become_the_verdict(workdir: Path) -> None:
    status = run(workdir, "--env", 'caught=x", "exit_code": 0, "z": "', "--", "bash", "-c", "exit 3")
    assert (status["state"], status["exit_code"]) == ("FAILED", 3), status


@pytest.mark.parametrize("name", ["hpcs_caught", "hpcs_run_dir", "IFS", "SECONDS", "SHELLOPTS", "UID"])
def test_the_job_scripts_own_names_are_refused(workdir: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpcsynapse", "submit", "--scheduler", "local", "--env", f"{name}=x", "--", "true"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and f"{name} belongs to" in done.stderr
    assert list(workdir.iterdir()) == []


def test_the_built_in_trainer_still_finds_modules_of_the_working_directory(workdir: Path) -> None:
    (workdir / "mine.py").write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    status = run(workdir, "--model", "mine:net", "--data", "digits", "--steps", "2", "--epochs", "1")
    assert status["state"] == "FINISHED", status
