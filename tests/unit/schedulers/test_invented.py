"""A queue is a class, a template, a row and fakes: one that nobody has goes all the way, and nothing else changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hpcsynapse.runs.directory import RunDirectory

PACKAGE = Path(__file__).parents[3] / "hpcsynapse"
INVENTED = Path(__file__).parents[2] / "helpers" / "invented"
LIMIT = 120.0


@pytest.fixture
def place(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory where the invented queue is installed, and the user's site file names it."""
    state = workdir / "state"
    state.mkdir()
    monkeypatch.setenv("FAKE_INVENTED_STATE", str(state))
    monkeypatch.setenv("PATH", f"{INVENTED / 'bin'}:{os.environ['PATH']}")
    package = shutil.copytree(PACKAGE, workdir / "own" / "hpcsynapse", ignore=shutil.ignore_patterns("__pycache__"))
    (package.parent / "templates").symlink_to(PACKAGE.parent / "templates")
    with (package / "spec" / "names.py").open("a") as names:
        names.write('QUEUES["invented"] = Queue("invented_queue:Invented", "a queue for tests", ("INVQ_",))\n')
    shutil.copy(INVENTED / "invented_queue.py", package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    (workdir / "site.toml").write_text(
        f'[site]\nname = "nowhere"\ntemplate_dir = "{INVENTED / "templates"}"\n[queue]\nscheduler = "invented"\n'
    )
    monkeypatch.setenv("HPCSYNAPSE_SITE", str(workdir / "site.toml"))
    yield workdir
    for file in state.glob("q?"):
        with suppress(ProcessLookupError, ValueError):
            os.killpg(int(file.read_text()), signal.SIGKILL)


def hpcsynapse(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hpcsynapse", *arguments], capture_output=True, text=True, timeout=LIMIT
    )


def status(name: str, *wanted: str) -> dict[str, Any]:
    """The state of a run, once it is one of those wanted."""
    end = time.monotonic() + LIMIT
    while True:
        done = hpcsynapse("status", name, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)[0]
        if found["state"] in wanted:
            return found
        assert time.monotonic() < end, (found, (Path("runs") / name / "logs" / "job.log").read_text())
        time.sleep(0.2)


@pytest.mark.slow
def test_a_run_is_submitted_watched_read_and_finished(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVQ_STRAY", "of another job")
    said = 'echo "rank $RANK of $WORLD_SIZE in $INVQ_ID ${INVQ_STRAY:-clean}"'
    done = hpcsynapse("submit", "--name", "a", "--ranks-per-node", "2", "--", "bash", "-c", said)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run a  job q1  ") and "INVQ_STRAY" in done.stderr
    assert status("a", "FINISHED", "FAILED", "LOST")["state"] == "FINISHED"
    assert RunDirectory(place / "runs" / "a").rank_log(1).read_text() == "rank 1 of 2 in q1 clean\n"
    assert "rank 0 of 2 in q1 clean" in hpcsynapse("logs", "a").stdout
    assert (place / "state" / "q1.script").read_text() == (place / "runs" / "a" / "job.iq").read_text()


@pytest.mark.slow
def test_a_run_is_cancelled(place: Path) -> None:
    assert hpcsynapse("submit", "--name", "b", "--", "sleep", "600").returncode == 0
    assert status("b", "SETUP", "TRAINING", "RUNNING")["native_state"] == "runs"
    assert hpcsynapse("cancel", "b").returncode == 0
    assert status("b", "STOPPED", "FAILED", "LOST")["state"] == "STOPPED"


def test_what_the_queue_owns_and_lacks_is_refused_by_name(place: Path) -> None:
    done = hpcsynapse("submit", "--env", "INVQ_ID=1", "--", "true")
    assert done.returncode == 2 and "INVQ_ID belongs to the queue" in done.stderr
    done = hpcsynapse("submit", "--launcher", "srun", "--", "true")
    assert done.returncode == 2 and "'srun' does not work under invented; use one of local" in done.stderr
    assert not (place / "runs").exists()
    done = hpcsynapse("study", "--ranks-per-node", "1,2", "--jobs", "array", "--", "true")
    assert done.returncode == 2 and "invented has no job file" in done.stderr
    assert "invented" in hpcsynapse("submit", "--help-all").stdout


def test_init_finds_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(INVENTED / "bin"))
    done = hpcsynapse("init", "--yes", "--out", "found.toml")
    assert done.returncode == 0, done.stderr
    assert 'scheduler = "invented"' in (place / "found.toml").read_text()
