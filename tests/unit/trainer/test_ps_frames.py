"""Whatever arrives on a connection ends that connection at most; the others go on."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ps_servers import KEY, Running, Vector, at_once, running, until

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.parameter_server import frames, greeting
from hpcsynapse.trainer.parameter_server.frames import HEADER, Frame, FrameError, Kind, RefusedError, unpack
from hpcsynapse.trainer.parameter_server.greeting import Greeting
from hpcsynapse.trainer.parameter_server.layout import FlatModel
from hpcsynapse.trainer.parameter_server.servers import Servers

SIZE = 1000
ANY = {int(kind): 0 for kind in Kind}


@given(
    st.builds(
        Frame,
        kind=st.sampled_from(list(ANY)),
        size=st.just(0),
        flags=st.integers(0, 255),
        version=st.integers(0, 2**62 - 1),
        step=st.integers(0, 2**62 - 1),
        staleness=st.integers(-(2**63), 2**63 - 1),
        rate=st.floats(0, 1e300),
        samples=st.integers(0, 2**32 - 1),
        chief=st.integers(0, 2**32 - 1),
        others=st.integers(0, 2**32 - 1),
    )
)
def test_a_header_arrives_as_it_was_sent(frame: Frame) -> None:
    assert unpack(frame.pack(), ANY) == frame


@given(st.binary(min_size=HEADER, max_size=HEADER))
@example(Frame(Kind.PUSH, 2**63).pack())
@example(Frame(Kind.PUSH, 4, rate=float("nan")).pack())
@example(Frame(Kind.PUSH, 4, rate=-1.0).pack())
@example(Frame(Kind.PUSH, 4, step=-1).pack())
@example(Frame(Kind.ERROR, 1 << 20).pack())
def test_no_other_header_is_accepted(data: bytes) -> None:
    with pytest.raises(FrameError):
        unpack(data, {Kind.PUSH: 4})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    """A server with one worker that stays while others misbehave."""
    with running(tmp_path_factory.mktemp("timings"), workers=3) as run:
        flat, worker = run.join(0, Vector(SIZE))
        yield run, flat, worker


def still_there(run: Running, flat: FlatModel, worker: Servers) -> None:
    before = run.counts("applied")[0]
    np.frombuffer(flat.gradient, np.float32)[:] = 0.25
    worker.push(before, 1.0, 1)
    assert run.counts("applied")[0] == before + 1
    assert torch.equal(flat.vector, run.values())


def say(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # closed already
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


def closed(connection: socket.socket) -> bytes:
    """Return what the server still says before it closes the connection."""
    said = b""
    try:
        while data := connection.recv(4096):
            said += data
    except ConnectionError:
        pass
    connection.close()
    return said


@settings(max_examples=40)
@given(st.binary(max_size=400))
@example(Frame(Kind.HELLO, 1 << 40).pack())
@example(Frame(Kind.HELLO, 120).pack() + b"x" * 10)
@example(Frame(Kind.PUSH, SIZE * 4).pack())
def test_noise_instead_of_a_greeting(served, data: bytes) -> None:
    run, flat, worker = served
    connection = run.connect()
    say(connection, data)
    closed(connection)
    still_there(run, flat, worker)


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=400))
@example(Frame(Kind.PUSH, SIZE * 4 + 1).pack())
@example(Frame(Kind.PUSH, 1 << 62).pack())
@example(Frame(Kind.GIVE, 0).pack())
@example(Frame(Kind.WELCOME, 32).pack() + b"x" * 32)
@example(Frame(Kind.ERROR, 10).pack() + b"0123456789")
@example(struct.pack("<4sB", b"HSP0", 5) + b"x" * (HEADER - 5))
@example(Frame(Kind.PUSH, SIZE * 4, rate=1.0).pack() + b"x" * 100)
def test_noise_after_the_greeting(served, data: bytes) -> None:
    run, flat, worker = served
    connection = run.greet(1, flat)
    say(connection, data)
    closed(connection)
    still_there(run, flat, worker)


def test_wrong_key(served) -> None:
    run, flat, worker = served
    with pytest.raises(TrainError, match=rf"{run.addresses[0]} refuses .*does not know the run's key"):
        run.join(1, Vector(SIZE), key=b"x" * 32)
    still_there(run, flat, worker)


def test_a_server_without_the_key_is_found_out(tmp_path: Path) -> None:
    """One that lets everybody in, and repeats the worker's own proof."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pretend() -> None:
        connection, _ = listener.accept()
        frames.send(connection, Frame(Kind.CHALLENGE, 32), b"c" * 32)
        data = connection.recv(HEADER + 120, socket.MSG_WAITALL)
        frames.send(connection, Frame(Kind.WELCOME, 32), data[-32:])

    def ask() -> object:
        connection = socket.create_connection(listener.getsockname(), 10)
        mine = Greeting(digest=b"d" * 32, elements=1, worker=0, workers=1, server=0, servers=1)
        return greeting.ask(connection, KEY, mine)

    _, result = at_once(pretend, ask)
    assert isinstance(result, FrameError) and "does not know this run's key" in str(result)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"elements": SIZE + 1}, "another model or optimizer"),
        ({"digest": b"x" * 32}, "another model or optimizer"),
        ({"server": 1, "servers": 2}, "this is server 0 of 1, not 1 of 2"),
        ({"worker": 3}, "worker 3 of 3 does not belong to a run of 3 workers"),
        ({"workers": 4}, "worker 1 of 4 does not belong to a run of 3 workers"),
    ],
)
def test_a_worker_that_does_not_fit_is_told_why(served, changes: dict[str, object], message: str) -> None:
    run, flat, worker = served
    told = {"digest": flat.digest, "elements": SIZE, "worker": 1, "workers": 3, "server": 0, "servers": 1, **changes}
    connection = run.connect()
    with pytest.raises(RefusedError, match=message):
        greeting.ask(connection, KEY, Greeting(**told))
    still_there(run, flat, worker)


def test_many_silent_connections_keep_nobody_out(served) -> None:
    """More than the server takes at a time; those beyond are closed at once."""
    run, flat, worker = served
    silent = [run.connect() for _ in range(100)]
    still_there(run, flat, worker)
    for connection in silent:
        connection.setblocking(False)
        until(lambda connection=connection: _readable(connection))
    refused = [connection for connection in silent if not connection.recv(1)]
    assert len(refused) == 100 - (2 * 3 + 64 - 1), "all but its places, of which the worker has one"
    for connection in silent:
        connection.close()
    until(lambda: run.servers[0]._places._value > 60)
    run.greet(1, flat).close()


def _readable(connection: socket.socket) -> bool:
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


def test_parameters_are_asked_for_before_there_are_any(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        connection = run.greet(0, FlatModel(Vector(SIZE), run.train))
        frames.send(connection, Frame(Kind.PULL))
        assert closed(connection) == b""
        run.join(0, Vector(SIZE))


def test_a_silent_worker_is_let_go(tmp_path: Path) -> None:
    with running(tmp_path, idle_limit=0.2) as run:
        flat, _ = run.join(0, Vector(SIZE))
        connection = run.greet(0, flat)
        frames.send(connection, Frame(Kind.PUSH, SIZE * 4, rate=1.0), b"x" * 100)
        answer = closed(connection)
        assert len(answer) == HEADER, "the header of the answer, and then nothing"
        assert run.counts("interrupted") == [1]
