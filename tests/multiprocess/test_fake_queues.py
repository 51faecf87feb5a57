"""Runs through stand-ins for queues that were not at hand: they run the jobs, and print and kill as the manuals say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

pytestmark = pytest.mark.multiprocess

FAKES = Path(__file__).parents[1] / "fakes"
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


@dataclass(frozen=True)
class Place:
    """A working folder where a fake queue is installed and the site file names it."""

    queue: str
    folder: Path
    env: dict[str, str]

    def call(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hpcsynapse", *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=self.folder,
            env=self.env | env,
        )

    def hpcsynapse(self, *arguments: str, **env: str) -> str:
        done = self.call(*arguments, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self, *names: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.hpcsynapse("status", "--json", *names))
        return found

    def ended(self, name: str) -> dict[str, Any]:
        """The status of a run once it has ended."""
        ends = ("FINISHED", "FAILED", "STOPPED", "LOST")
        wait_until(lambda: self.status(name)[0]["state"] in ends, 240, f"{name} has ended")
        return self.status(name)[0]

    def begun(self, name: str) -> Path:
        """The folder of a run, once both its ranks are at work."""
        path = self.folder / "runs" / name
        wait_until(lambda: all((path / f"here-{rank}").exists() for rank in (0, 1)), 240, "both ranks began")
        return path


@pytest.fixture(params=["pbs", "lsf", "flux"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    (work / "site.toml").write_text(f'[site]\nname = "fake"\n[queue]\nscheduler = "{request.param}"\n')
    (work / "patient.py").write_text(PATIENT)
    env = os.environ | {
        "PATH": f"{FAKES / request.param}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FAKE_PYTHON": sys.executable,
        "FAKE_BATCH_STATE": str(tmp_path / "state"),
        "HOME": str(home),
        "HPCSYNAPSE_SITE": str(work / "site.toml"),
        "HPCSYNAPSE_RUNS": str(work / "runs"),
        "XDG_CONFIG_HOME": str(home),
    }
    yield Place(request.param, work, env)
    for path in (tmp_path / "state").glob("job-*.json"):
        (tmp_path / "state" / f"cancel-{path.stem.removeprefix('job-')}").touch()


RANKS = ("--ranks-per-node", "2")


def test_a_training_is_followed_to_its_end(place: Place) -> None:
    done = place.call(
        "submit",
        "--follow",
        "--name",
        "t",
        *RANKS,
        "--model",
        "simple-cnn",
        "--data",
        "digits",
        "--batch",
        "32",
        "--steps",
        "3",
        "--device",
        "cpu",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("FINISHED")


def test_a_program_that_fails(place: Place) -> None:
    (place.folder / "fails.py").write_text("import os, sys\nsys.exit(7 if os.environ['RANK'] == '1' else 0)\n")
    place.hpcsynapse("submit", "--name", "f", *RANKS, "--", "python", "fails.py")
    status = place.ended("f")
    assert (status["state"], status["exit_code"], status["failure"]["rank"]) == ("FAILED", 7, 1)


def test_a_run_that_is_cancelled_tells_its_ranks(place: Place) -> None:
    place.hpcsynapse("submit", "--name", "c", *RANKS, "--", "python", "patient.py", FAKE_PBS_KILL_DELAY="300")
    path = place.begun("c")
    assert place.status("c")[0]["state"] == "TRAINING"
    place.hpcsynapse("cancel", "c")
    assert place.ended("c")["state"] == "STOPPED"
    assert [(path / f"told-{rank}").read_text() for rank in (0, 1)] == ["15", "15"]


def test_a_job_that_waits_is_cancelled(place: Place) -> None:
    place.hpcsynapse("submit", "--name", "w", "--", "true", FAKE_BATCH_DELAY="3000")
    assert place.status("w")[0]["state"] == "QUEUED"
    place.hpcsynapse("cancel", "w")
    status = place.ended("w")
    assert status["state"] == "STOPPED"


def test_the_time_limit(place: Place) -> None:
    options = ("--time", "00:00:20", "--", "sleep", "3000")
    place.hpcsynapse("submit", "--name", "l", *RANKS, *options, FAKE_PBS_KILL_DELAY="300", FAKE_LSF_LIMIT="20")
    status = place.ended("l")
    assert status["state"] == "FAILED" and "time limit" in status["reason"], status


def test_what_the_queue_refuses(place: Place) -> None:
    done = place.call("submit", "--name", "r", "--partition", "nosuch", "--", "true")
    assert done.returncode == 1 and "queue" in done.stderr.lower()
    assert place.status("r")[0]["state"] == "FAILED"


def test_a_study_is_an_array_or_says_that_there_are_none(place: Place) -> None:
    study = ("study", "--ranks-per-node", "1,2", "--repeats", "2", "--no-chain", "--name", "s", "--", "true")
    done = place.call(*study[:1], "--jobs", "array", *study[1:])
    if place.queue == "flux":
        assert done.returncode == 2 and "array" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    states = lambda: {one["state"] for one in place.status("runs/s")}  # noqa: E731
    wait_until(lambda: states() == {"FINISHED"}, 240, "all runs have finished")
    ids = [one["job_id"] for one in place.status("runs/s")]
    assert len(set(ids)) == 4 and all("[" in one for one in ids)


def test_a_run_that_failed_is_queued_again_and_never_lost_meanwhile(place: Place) -> None:
    (place.folder / "once.py").write_text(
        "import os, pathlib, sys\n"
        "seen = pathlib.Path(os.environ['HPCSYNAPSE_RUN_DIR'], 'seen')\n"
        "sys.exit(0) if seen.exists() else seen.touch()\n"
        "sys.exit(3)\n"
    )
    done = place.call("submit", "--follow", "--requeues", "1", "--name", "q", "--", "python", "once.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LOST" not in done.stdout and done.stdout.splitlines()[-1].startswith("FINISHED")
    assert len(list(Path(place.env["FAKE_BATCH_STATE"]).glob("job-*.json"))) == 2


def test_a_job_that_the_queue_has_forgotten_is_judged_by_what_it_left(place: Place) -> None:
    place.hpcsynapse("submit", "--name", "g", "--", "true")
    status = place.ended("g")
    assert status["state"] == "FINISHED"
    job_id = status["job_id"]
    for file in Path(place.env["FAKE_BATCH_STATE"]).glob("job-*.json"):
        file.unlink()
    assert place.status("g")[0]["state"] == "FINISHED"
    (place.folder / "runs" / "g" / "exit.json").unlink()
    if place.queue == "lsf":  # bjobs may have listed nothing by mistake
        assert place.status("g")[0]["state"] == "UNKNOWN"
        (place.folder / "runs" / "g" / ".unlisted.json").write_text(json.dumps({"job_id": job_id, "time": 0}))
    assert place.status("g")[0]["state"] == "LOST"
