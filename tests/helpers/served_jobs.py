"""Runs with parameter servers: every process is started, killed and started again by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from forge import Forge, Process
from jobs import HERE, LIMIT, SMALL, Starter, free_port

from hpcsynapse import timing
from hpcsynapse.files import read_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import parts
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import ServerOptions, TrainSpec

FIELDS = [name for name, _, _ in timing.FIELDS]


@dataclass
class Served:
    """Servers and workers of one run, each by its name: ps0, worker1."""

    run: RunDirectory
    forge: Forge
    servers: list[str]
    workers: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self, *names: str) -> Served:
        """Start processes, or start them again."""
        for name in names:
            job, index = name.rstrip("0123456789"), name.lstrip("psworke")
            arguments = [
                str(self.run.path),
                "--ps-hosts",
                ",".join(self.servers),
                "--worker-hosts",
                ",".join(self.workers),
                "--job-name",
                job,
                "--task-index",
                index,
            ]
            environment = {**os.environ, "PYTHONPATH": str(HERE), **self.environment}
            self.processes[name] = self.forge.start(arguments, environment, self.log(name))
        return self

    def start_all(self) -> Served:
        return self.start(*self.names("ps"), *self.names("worker"))

    def names(self, kind: str) -> list[str]:
        return [f"{kind}{index}" for index in range(len(self.servers if kind == "ps" else self.workers))]

    def log(self, name: str) -> Path:
        return self.run.path / "logs" / f"{name}.log"

    def output(self, name: str) -> str:
        return self.log(name).read_text(errors="replace") if self.log(name).exists() else ""

    def everything(self) -> str:
        return "\n".join(f"== {name}\n{self.output(name)[-3000:]}" for name in self.processes)

    def kill(self, name: str) -> None:
        """Kill a process for good, as a lost node would."""
        self.processes[name].kill()
        assert self.processes[name].wait(30) == -signal.SIGKILL

    def wait(self, *names: str, limit: float = LIMIT) -> list[int]:
        """Return the exit codes of processes, by default of all."""
        end = time.monotonic() + limit
        codes = []
        for name in names or list(self.processes):
            try:
                codes.append(self.processes[name].wait(max(0.1, end - time.monotonic())))
            except TimeoutError:
                pytest.fail(f"{name} did not end within {limit} s\n{self.everything()}")
        return codes

    def succeed(self, *names: str) -> RunDirectory:
        codes = self.wait(*names)
        assert not any(codes), f"exit codes {codes}\n{self.everything()}"
        return self.run

    def status(self) -> dict[str, Any]:
        return read_json(self.run.status) or {}

    def accuracy(self) -> float:
        """Return the accuracy that the chief found at the end."""
        last = self.run.read_history()[-1]
        assert last["state"] == "FINISHED", self.everything()
        return float(last["result"]["accuracy"])

    def counts(self, server: int = 0) -> dict[str, list[int]]:
        """Return a server's counts as it has written them, by worker."""
        workers = json.loads(self.run.server_counts(server).read_text())["workers"]
        return {name: [worker[name] for worker in workers] for name in workers[0]}

    def until(self, name: str, text: str, times: int = 1) -> None:
        """Wait until a process has written a text so many times."""
        self.until_true(lambda: self.output(name).count(text) >= times)

    def until_step(self, step: int) -> None:
        """Wait until the chief has made so many steps."""
        self.until_true(lambda: (self.status().get("step") or 0) >= step)

    def until_true(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < end, self.everything()
            assert any(process.poll() is None for process in self.processes.values()), self.everything()
            time.sleep(0.02)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(30)

    def records(self, role: str = "worker") -> list[dict[str, Any]]:
        """Return all step records, by rank."""
        found = []
        for part in parts(self.run.timings, role):
            for record in timing.RECORD.iter_unpack(part.read()):
                found.append({"rank": part.header["rank"], **dict(zip(FIELDS, record, strict=True))})
        return [step for step in found if not step["flags"] & timing.PAUSE]

    def held(self) -> torch.Tensor:
        """Return the parameters that the servers have saved, as one vector."""
        states = [torch.load(self.run.server_state(number), weights_only=True) for number in range(len(self.servers))]
        return torch.cat([chunk["parameters"] for state in states for chunk in state["chunks"]])


class ServedStarter:
    """Makes runs with parameter servers."""

    def __init__(self, starter: Starter, forge: Forge) -> None:
        self._starter, self._forge = starter, forge

    def __call__(
        self,
        strategy: str,
        workers: int,
        servers: int = 1,
        *,
        hosts: int = 1,
        wait_limit: float = 30.0,
        start_limit: float = 200.0,
        ps: dict[str, Any] | None = None,
        **train: Any,
    ) -> Served:
        """Make the run of SMALL, changed by the settings given; workers are dealt out over `hosts` of 127.0.0.x."""
        settings = {**SMALL, "strategy": strategy, "validate_every": 0, "checkpoint_every": 0, **train}
        spec = JobSpec(
            name=f"{strategy}-{len(self._starter.jobs)}",
            train=TrainSpec(**settings),
            resources=ResourceRequest(nodes=hosts, ranks_per_node=workers // hosts),
            queue=QueueOptions(scheduler="local"),
            launch=LaunchOptions(wait_limit=wait_limit, start_limit=start_limit),
            ps=ServerOptions(**{"servers": max(1, servers), "rejoin_limit": 20.0, **(ps or {})}),
        )
        names = [f"127.0.0.{1 + index * hosts // workers}" for index in range(workers)]
        made = Served(
            RunDirectory.create(self._starter.folder, spec),
            self._forge,
            [f"127.0.0.1:{free_port()}" for _ in range(servers)],
            [f"{name}:{free_port()}" for name in names],
        )
        self._starter.jobs.append(made)
        return made
