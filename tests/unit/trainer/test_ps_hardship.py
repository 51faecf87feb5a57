"""What parameter servers make of descriptors, threads and disk space that run out, and of signals at any instant."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from ps_servers import KEY, LIMIT, Vector, at_once, running, until

from hpcsynapse.errors import TrainError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer.cluster import Cluster
from hpcsynapse.trainer.parameter_server import frames, state
from hpcsynapse.trainer.parameter_server.frames import CHUNK, HEADER, Frame, Kind
from hpcsynapse.trainer.parameter_server.layout import FlatModel
from hpcsynapse.trainer.parameter_server.serve import _Process, allow_connections
from hpcsynapse.trainer.parameter_server.server import Server
from hpcsynapse.trainer.parameter_server.server_records import ServerRecords
from hpcsynapse.trainer.traffic import Traffic

pytestmark = pytest.mark.slow


@contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    kept = resource.getrlimit(what)
    resource.setrlimit(what, (soft, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, kept)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    with limited(resource.RLIMIT_NOFILE, 1 + max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())):
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        try:
            yield
        finally:
            for descriptor in taken:
                os.close(descriptor)


def test_a_server_without_descriptors_accepts_when_there_are_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path) as run, socket.socket() as early:
        early.settimeout(LIMIT)
        address = run.addresses[0].partition(":")
        with no_descriptors():
            early.connect((address[0], int(address[2])))
            until(lambda: "cannot be accepted" in caplog.text)
        assert len(early.recv(HEADER, socket.MSG_WAITALL)) == HEADER, "it is challenged after all"
        run.join(0, Vector(10))


def test_a_server_without_threads_accepts_when_there_are_some(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        places = run.servers[0]._places._value
        kept = threading.stack_size(1 << 46)  # more than there is
        try:
            with run.connect() as refused:
                assert refused.recv(1) == b""
        finally:
            threading.stack_size(kept)
        until(lambda: run.servers[0]._places._value == places)
        run.join(0, Vector(10))


def test_descriptors_for_all_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with limited(resource.RLIMIT_NOFILE, min(soft, 256)):
        allow_connections(400)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(500, hard), hard)
        allow_connections(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(500, hard), hard), "never lowered"


def test_bytes_are_counted_once_whatever_the_descriptors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        other, _ = listener.accept()
        traffic = Traffic(between_hosts=False, interval=0.0)
        one.sendall(bytes(5000))
        assert len(other.recv(5000, socket.MSG_WAITALL)) == 5000
        with no_descriptors():
            assert traffic.look() == (0, 0)
        assert traffic.look() == (5000, 5000)
        assert traffic.look() == (0, 0)
        other.close()


def test_a_descriptor_that_has_become_a_file_is_left_alone(tmp_path: Path) -> None:
    traffic = Traffic(between_hosts=False)
    with (tmp_path / "file").open("wb") as file:
        before = sorted(Path("/proc/self/fd").iterdir())
        with pytest.raises(OSError, match="non-socket"):
            traffic._count(file.fileno())
        assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_signal_at_any_instant(tmp_path: Path) -> None:
    """It runs between any two instructions of the main thread, also where that holds the lock of what it waits for."""
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    kept = [signal.getsignal(number) for number in numbers]
    with running(tmp_path) as run:
        try:
            process = _Process(RunDirectory(tmp_path), run.servers[0], run.addresses[0], 30.0)
        finally:
            for number, handler in zip(numbers, kept, strict=True):
                signal.signal(number, handler)
        with run.servers[0].changed._cond:
            at_once(lambda: process._note(signal.SIGTERM, None))
        assert process.watch() == 143


def test_state_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "server.pt"
    state.save(path, {"values": torch.ones(1000)})
    with limited(resource.RLIMIT_FSIZE, 100_000), pytest.raises(OSError, match="File too large"):
        state.save(path, {"values": torch.zeros(1_000_000)})
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    content = state.load(path)
    assert content is not None and bool(content["values"].all())


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    for name in (".server-00001.pt.123", ".server-00002.pt.123"):
        (tmp_path / name).write_bytes(b"half")
    state.save(tmp_path / "server-00001.pt", {})
    assert {entry.name for entry in tmp_path.iterdir()} == {"server-00001.pt", ".server-00002.pt.123"}


def test_counts_of_bytes_outlive_a_server(tmp_path: Path) -> None:
    first, second = (
        ServerRecords(StepRecorder(tmp_path, role="ps", keep=True), Traffic(between_hosts=False), 1) for _ in range(2)
    )
    first.count("applied", 0)
    first.moved(100, 200)
    second.restore(json.loads(json.dumps(first.save())))
    second.moved(10, 20)
    second.write(tmp_path / "counts.json", {}, [1])
    found = json.loads((tmp_path / "counts.json").read_text())
    assert (found["received"], found["sent"], found["workers"][0]["applied"]) == (110, 220, 1)


def test_parameters_may_come_slowly(tmp_path: Path) -> None:
    """All of them take longer than a worker may be silent."""
    chunks = 4
    with running(tmp_path, idle_limit=1.0) as run:
        flat = FlatModel(Vector(chunks * CHUNK // 4), run.train)
        giving = run.greet(0, flat)
        frames.send(giving, Frame(Kind.GIVE, chunks * CHUNK))
        for _ in range(chunks):
            time.sleep(0.45)
            giving.sendall(b"\x01" * CHUNK)
        assert frames.receive(giving, {Kind.OK: 0}, LIMIT).kind == Kind.OK
        assert bytes(run.servers[0].updates.part.view[-4:]) == b"\x01" * 4


def test_who_gives_parameters_first_is_waited_for_but_not_when_lost(tmp_path: Path) -> None:
    with running(tmp_path, workers=3) as run:
        flat = FlatModel(Vector(1000), run.train)
        dying = run.greet(2, flat)
        frames.send(dying, Frame(Kind.GIVE, 4000), bytes(2000))
        until(lambda: run.servers[0].updates.filling.locked())
        second = run.greet(1, flat)
        frames.send(second, Frame(Kind.GIVE, 4000), np.full(1000, 7.0, np.float32).tobytes())
        assert frames.receive(second, {Kind.WAIT: 0}, LIMIT).kind == Kind.WAIT
        assert not run.servers[0].updates.filled
        dying.close()
        while second.recv(HEADER, socket.MSG_WAITALL):
            pass
        flat, _ = run.join(0, Vector(1000))
        assert torch.equal(run.values(), flat.vector)


def test_a_server_that_is_there_is_kept_while_another_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For longer than a worker may be silent."""
    with running(tmp_path, servers=2, idle_limit=3.0) as run:
        late = run.servers[1]
        late.close()

        def come() -> None:
            time.sleep(4.0)
            host, _, port = run.addresses[1].partition(":")
            listener = socket.create_server((host, int(port)))
            run.servers[1] = Server(listener, KEY, late.plan, late.members, late.records)
            run.servers[1].start()

        _, (flat, joined) = at_once(come, lambda: run.join(0, Vector(50)))
        assert torch.equal(run.values(), flat.vector)
        joined.leave()
        # Of this test's server: the connections of earlier tests end whenever they are collected.
        assert f"parameter server {run.addresses[0]} was lost" not in caplog.text


@pytest.mark.parametrize("address", ["a", ":1", "a:0", "a:65536", "a:x", "a:" + "1" * 5000, "a..b:1", f"{'a' * 64}:1"])
def test_no_address(address: str) -> None:
    with pytest.raises(TrainError, match="is not host:port"):
        Cluster(servers=(address,), workers=("b:1",), job="ps", index=0)
