"""Somebody at a login node: runs the hpcsynapse command in a folder of their own and waits for what it says."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ENDED = ("FINISHED", "STOPPED", "FAILED", "LOST")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that was submitted."""

    name: str
    job_id: str
    path: Path

    def file(self, name: str) -> Any:
        """What a JSON file of the run directory holds."""
        return json.loads((self.path / name).read_text())

    def by_rank(self, ranks: int) -> list[dict[str, Any]]:
        """What TELL made every rank write."""
        return [self.file(f"told-{rank}.json") for rank in range(ranks)]

    def text(self, name: str) -> str:
        """A file of the run directory, empty while it is not there."""
        path = self.path / name
        return path.read_text(errors="replace") if path.is_file() else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Researcher:
    """Runs commands in `folder`, where the runs are kept, as a client of the lab."""

    lab: Any
    folder: Path
    env: dict[str, str]

    def call(self, *argv: str, timeout: float = 120, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever its exit code; `env` adds variables."""
        env = self.env | more.pop("env", {})
        settings = {"cwd": self.folder, "capture_output": True, "text": True, "timeout": timeout, **more}
        return subprocess.run(argv, env=env, **settings)

    def attempt(self, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run `hpcsynapse ARGV`, whatever its exit code."""
        return self.call(sys.executable, "-m", "hpcsynapse", *argv, **more)

    def find(self, name: str) -> Run:
        """A run that somebody else submitted into our folder."""
        told = json.loads(self.hpcsynapse("status", "--json", name))[0]
        return Run(name=name, job_id=told["job_id"], path=Path(told["path"]))

    def hpcsynapse(self, *argv: str, **more: Any) -> str:
        """Run `hpcsynapse ARGV` and return what it prints; fail with its stderr."""
        done = self.attempt(*argv, **more)
        if done.returncode != 0:
            pytest.fail(f"hpcsynapse {' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def submit(self, *argv: str, **more: Any) -> Run:
        """Submit a run and return it at once."""
        told = json.loads(self.hpcsynapse("submit", "--json", *argv, **more))
        return Run(name=told["run"], job_id=told["job_id"], path=Path(told["path"]))

    def follow(self, *argv: str, timeout: float = 180, **more: Any) -> tuple[Run, subprocess.CompletedProcess[str]]:
        """Submit a run under the given name and stay until it has ended."""
        name = argv[argv.index("--name") + 1]
        done = self.attempt("submit", "--follow", *argv, timeout=timeout, **more)
        return Run(name=name, job_id="", path=self.folder / "runs" / name), done

    def status(self, run: Run) -> dict[str, Any]:
        """What `hpcsynapse status` says of a run."""
        found: dict[str, Any] = json.loads(self.hpcsynapse("status", "--json", str(run.path)))[0]
        return found

    def wait(self, run: Run, *states: str, timeout: float = 120) -> dict[str, Any]:
        """Wait until a run is in one of the states; fail at once when it ends in another."""
        limit = time.monotonic() + timeout
        while (status := self.status(run))["state"] not in states:
            if status["state"] in ENDED or time.monotonic() > limit:
                pytest.fail(f"{run.name} is not {' or '.join(states)}, but {self.story(run, status)}")
            time.sleep(0.2)
        return status

    def finish(self, run: Run, timeout: float = 180) -> dict[str, Any]:
        """Wait until a run has ended well; return its status."""
        return self.wait(run, "FINISHED", timeout=timeout)

    def story(self, run: Run, status: dict[str, Any]) -> str:
        """All that helps to understand why a run is not where it should be."""
        logs = "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in run.path.glob("logs/*"))
        return f"{status['state']}: {status['reason']}\n{logs}\n{self.lab.run('squeue', '--states=all')}"

    def wait_for(self, path: Path, timeout: float = 60) -> None:
        """Wait until a file is there."""
        self.lab.wait_until(path.exists, timeout, f"{path} exists")

    def leave(self) -> None:
        """Cancel all that is still in the queue from our folder, known to a run or not."""
        listed = self.lab.attempt("squeue", "--noheader", "--format=%A %Z").stdout.splitlines()
        mine = {number for number, _, folder in (line.partition(" ") for line in listed) if self._is_ours(folder)}
        if mine:
            self.lab.attempt("scancel", *sorted(mine))

    def _is_ours(self, folder: str) -> bool:
        return Path(folder).is_relative_to(self.folder.parent)

    def script(self, name: str, text: str) -> str:
        """Write a program into the working folder; returns its name."""
        (self.folder / name).write_text(text)
        return name


def at_login(lab: Any, folder: Path) -> Researcher:
    """A researcher whose settings, runs and working folder are new."""
    for name in ("home", "work"):
        (folder / name).mkdir(parents=True)
    # The lab's GPUs are files: what asks for them trains on the CPU.
    (folder / "work" / "hpcsynapse.toml").write_text('[train]\ndevice = "cpu"\n')
    env = lab.env | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "home"),
        "HPCSYNAPSE_RUNS": str(folder / "work" / "runs"),
        "OMP_NUM_THREADS": "1",
    }
    return Researcher(lab=lab, folder=folder / "work", env=env)


# What a rank knows, written by itself; what is only said by rank 0 is tried by it.
TELL = """
import json, os, pathlib, socket
env = dict(os.environ)
told = {"env": env, "host": socket.gethostname(), "cwd": os.getcwd()}
# Under torchrun its agent on the first node holds the port for all ranks.
if env["RANK"] == "0" and "TORCHELASTIC_USE_AGENT_STORE" not in env:
    socket.create_server(("", int(env["MASTER_PORT"]))).close()
    told["port_binds"] = True
told["master"] = socket.gethostbyname(env["MASTER_ADDR"])
target = pathlib.Path(env["HPCSYNAPSE_RUN_DIR"], f"told-{env['RANK']}.json")
target.with_suffix(".part").write_text(json.dumps(told))
target.with_suffix(".part").rename(target)
"""

# A model whose steps take time but no processor, so that a run can be watched, stopped and interrupted.
# Every step takes its time, until there is a file `hurry` in the working folder.
SLOW_MODEL = """
import pathlib, time
from torch import nn


class Slow(nn.Module):
    def __init__(self, seconds=0.05):
        super().__init__()
        self.seconds = seconds
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def forward(self, images):
        if not pathlib.Path("hurry").exists():
            time.sleep(self.seconds)
        return self.net(images)
"""
