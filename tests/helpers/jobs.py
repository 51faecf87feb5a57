"""Runs of the trainer with several processes: small, bounded in time, and cleaned up by process id."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcsynapse.files import read_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import DualOptions, ExchangeOptions, TrainSpec

HERE = Path(__file__).parent
LIMIT = 300.0  # seconds for any one run: mpirun alone may take more than a minute where much else runs
# Seen to hold whatever else runs here: a small model, and data made from nothing.
SMALL: dict[str, Any] = {
    "model": "simple-cnn",
    "model_args": {"dropout": 0.0},
    "data": "synthetic",
    "data_args": {"shape": [1, 8, 8], "samples": 96, "validation": 20},
    "lr": 0.05,
}


def missing(reason: str) -> None:
    """Skip, naming the reason; where everything has to be there, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; with CI set this is a failure")
    pytest.skip(reason)


def need(engine: str) -> None:
    """Skip unless an engine and its launcher are installed."""
    for name, module, command in (("mpi", "mpi4py", "mpirun"), ("horovod", "horovod", "mpirun")):
        if engine == name and importlib.util.find_spec(module) is None:
            missing(f"{module} is not installed")
        if engine == name and shutil.which(command) is None:
            missing(f"{command} is not installed")


@dataclass
class Job:
    """Processes of one run, ended with the test whatever happens."""

    run: RunDirectory
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    log: Path = Path()

    def wait(self, limit: float = LIMIT) -> list[int]:
        """Return the exit codes; fails the test when the run does not end within the limit."""
        end = time.monotonic() + limit
        try:
            return [process.wait(max(0.1, end - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired:
            pytest.fail(f"the run did not end within {limit} s:\n{self.output()[-3000:]}")

    def succeed(self, limit: float = LIMIT) -> RunDirectory:
        """Wait for success and return the run."""
        codes = self.wait(limit)
        assert not any(codes), f"exit codes {codes}:\n{self.output()[-5000:]}"
        return self.run

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        return read_json(self.run.status) or {}

    def until_step(self, step: int) -> None:
        """Wait until rank 0 has made so many steps."""
        end = time.monotonic() + LIMIT
        while self.status().get("step", 0) < step:
            assert time.monotonic() < end, self.output()[-3000:]
            assert any(process.poll() is None for process in self.processes), self.output()[-3000:]
            time.sleep(0.05)

    def ranks(self) -> list[int]:
        """Return the process ids of the ranks, in any order, also below a launcher."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                program = words[1:4] == [b"-m", b"hpcsynapse.job", b"train"] and words[4:5] == [bytes(self.run.path)]
                if program:
                    found.append(int(entry.name))
        return found

    def end(self) -> None:
        for pid in [*self.ranks(), *(process.pid for process in self.processes if process.poll() is None)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch_command(launcher: str, ranks: int) -> list[str]:
    """Return what is put before a program; empty where every rank is started by hand."""
    if launcher == "mpirun":
        return ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
    if launcher == "horovodrun":
        return [str(Path(sys.executable).with_name("horovodrun")), "--gloo", "-np", str(ranks)]
    return []


class Starter:
    """Makes run directories and starts them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.jobs = folder, []

    def create(
        self,
        name: str,
        ranks: int = 1,
        wait_limit: float = 30.0,
        exchange: ExchangeOptions | None = None,
        dual: DualOptions | None = None,
        **train: Any,
    ) -> RunDirectory:
        """Make the directory of a run of SMALL, changed by the settings given."""
        spec = JobSpec(
            name=name,
            train=TrainSpec(**{"strategy": "single" if ranks == 1 else "allreduce", **SMALL, **train}),
            exchange=exchange or ExchangeOptions(),
            dual=dual or DualOptions(),
            resources=ResourceRequest(ranks_per_node=ranks),
            queue=QueueOptions(scheduler="local"),
            launch=LaunchOptions(wait_limit=wait_limit, start_limit=200.0),
        )
        return RunDirectory.create(self.folder, spec)

    def start(self, run: RunDirectory, ranks: int = 1, launcher: str = "", program: list[str] | None = None) -> Job:
        """Start a run's ranks (or a program of a user's own) and return at once."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "HPCSYNAPSE_RUN_DIR": str(run.path),
            "HPCSYNAPSE_ATTEMPT": str(len(self.jobs)),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_mpi_yield_when_idle": "1",  # more ranks than cores: those that wait must not spin
        }
        environment.pop("RANK", None)
        rank = [str(HERE / "as_rank.py"), *(program or ["-m", "hpcsynapse.job", "train", str(run.path)])]
        prefix = launch_command(launcher, ranks)
        job = Job(run, log=self.folder / f"{run.name}.{len(self.jobs)}.log")
        self.jobs.append(job)
        with job.log.open("wb") as log:
            for number in range(1 if prefix else ranks):
                own = environment if prefix else {**environment, "RANK": str(number)}
                job.processes.append(
                    subprocess.Popen(
                        [*prefix, sys.executable, *rank],
                        env=own,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                    )
                )
        return job

    def __call__(self, name: str, ranks: int = 1, launcher: str = "", **settings: Any) -> Job:
        return self.start(self.create(name, ranks, **settings), ranks, launcher)


def parameters(run: RunDirectory) -> dict[str, torch.Tensor]:
    """Return the model in the newest checkpoint of a run."""
    newest = sorted(run.checkpoints.glob("step-*.pt"))[-1]
    model: dict[str, torch.Tensor] = torch.load(newest, weights_only=True)["model"]
    return model


def gone(job: Job) -> None:
    """No process of the run is left, soon after the launcher ended."""
    end = time.monotonic() + 15
    while job.ranks():
        assert time.monotonic() < end, f"processes {job.ranks()} are left"
        time.sleep(0.1)
