"""Parameter servers in threads of this process, and the workers' side of connections to them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hpcsynapse.spec.training import ServerOptions, TrainSpec
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer.parameter_server import frames, greeting
from hpcsynapse.trainer.parameter_server.greeting import Greeting
from hpcsynapse.trainer.parameter_server.layout import FlatModel
from hpcsynapse.trainer.parameter_server.members import Members
from hpcsynapse.trainer.parameter_server.server import Plan, Server
from hpcsynapse.trainer.parameter_server.server_records import ServerRecords
from hpcsynapse.trainer.parameter_server.servers import Servers
from hpcsynapse.trainer.traffic import Traffic

KEY = b"k" * 32
LIMIT = 20.0


class Vector(nn.Module):
    """A model of n numbers that begin with the same pattern in every worker."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(size, dtype=torch.float32) / size)


class Running:
    """Servers of one run, and workers that join it."""

    def __init__(
        self, folder: Path, servers: int, workers: int, idle_limit: float, ps: dict[str, Any], train: dict[str, Any]
    ) -> None:
        self.train = TrainSpec(**{"strategy": "ps-async", "momentum": 0.0, "lr": 1.0, **train})
        self.workers, self.ps = workers, ServerOptions(servers=servers, **{"rejoin_limit": LIMIT, **ps})
        self.servers, self.addresses = [], []
        for number in range(servers):
            listener = socket.create_server(("127.0.0.1", 0))
            self.addresses.append(f"127.0.0.1:{listener.getsockname()[1]}")
            plan = Plan(
                train=self.train,
                options=self.ps,
                server=number,
                servers=servers,
                workers=workers,
                idle_limit=idle_limit,
            )
            recorder = StepRecorder(folder, rank=number, role="ps")
            members = Members(workers, LIMIT, self.ps.rejoin_limit)
            server = Server(
                listener, KEY, plan, members, ServerRecords(recorder, Traffic(between_hosts=False), workers)
            )
            server.start()
            self.servers.append(server)

    def join(self, worker: int, model: nn.Module, key: bytes = KEY) -> tuple[FlatModel, Servers]:
        """Connect a worker, give the servers its parameters where they have none, and pull."""
        flat = FlatModel(model, self.train)
        joined = Servers(
            self.addresses,
            key,
            flat,
            worker,
            self.workers,
            repeat=self.train.strategy == "ps-sync",
            start_limit=5.0,
            wait_limit=LIMIT,
            rejoin_limit=5.0,
            alive=lambda: None,
            over=lambda: False,
        )
        if joined.empty:
            joined.give(0)
        joined.pull()
        return flat, joined

    def connect(self, limit: float = LIMIT) -> socket.socket:
        """Return a bare connection to the first server."""
        host, _, port = self.addresses[0].partition(":")
        connection = socket.create_connection((host, int(port)), LIMIT)
        frames.prepare(connection, limit)
        return connection

    def greet(self, worker: int, flat: FlatModel) -> socket.socket:
        """Return a connection to the first server behind the greeting."""
        connection = self.connect()
        mine = Greeting(
            digest=flat.digest,
            elements=flat.elements,
            worker=worker,
            workers=self.workers,
            server=0,
            servers=len(self.servers),
        )
        greeting.ask(connection, KEY, mine)
        return connection

    def values(self) -> torch.Tensor:
        return torch.cat([server.updates.part.values for server in self.servers if server.updates])

    def counts(self, name: str, server: int = 0) -> list[int]:
        return self.servers[server].records.save()[name]


@contextmanager
def running(
    folder: Path,
    servers: int = 1,
    workers: int = 1,
    idle_limit: float = LIMIT,
    ps: dict[str, Any] | None = None,
    **train: Any,
) -> Iterator[Running]:
    made = Running(folder, servers, workers, idle_limit, ps or {}, train)
    yield made
    for server in made.servers:
        server.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Do several things at the same time and return what they return."""
    results: list[Any] = [None] * len(actions)

    def run(number: int, action: Callable[[], Any]) -> None:
        try:
            results[number] = action()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            results[number] = error

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    return results
