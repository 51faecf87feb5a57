"""Clocks of nodes: what round trips tell of them holds for any offset, drift and network, and costs nothing else."""

from __future__ import annotations

import json
import random
import socket
import threading
import time

import pytest
from waiting import wait_until

from hpcsynapse.job import clock as module
from hpcsynapse.job.clock import ClockService, Trip, measured
from hpcsynapse.runs.clocks import Measured, NodeClock, read_clocks
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec

CASES = 200


class Network:
    """A way between two nodes with delays of its own there and back, and one clock that is ahead and drifts."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.offset, self.drift = rng.uniform(-0.05, 0.05), rng.uniform(-20e-6, 20e-6)
        self.there, self.back = rng.uniform(5e-6, 5e-4), rng.uniform(5e-6, 5e-4)
        self.jitter = rng.uniform(0, 3e-4)

    def own(self, true: float) -> float:
        return 1.75e9 + true + self.offset + self.drift * true

    def trip(self, true: float) -> tuple[Trip, float]:
        """A round trip that begins at a time, and when it is over."""
        received = true + self.there + self.rng.expovariate(1) * self.jitter
        answered = received + self.rng.uniform(1e-6, 3e-5)
        over = answered + self.back + self.rng.expovariate(1) * self.jitter
        return Trip(self.own(true), 1.75e9 + received, 1.75e9 + answered, self.own(over)), over

    def measured(self, true: float, trips: int = 16) -> Measured:
        found = []
        for _ in range(trips):
            trip, true = self.trip(true)
            found.append(trip)
        return measured(found)


def whole_job(rng: random.Random) -> tuple[float, float, float]:
    """The worst error, what it may be, and the worst share of the bound that an error was, at any time of a job."""
    network, length = Network(rng), rng.uniform(20, 3000)
    pauses = [*module._PAUSES, *[module._PAUSE] * 100]
    times = [rng.uniform(0.1, 2.0)]
    while times[-1] + pauses[len(times) - 1] < length:
        times.append(times[-1] + pauses[len(times) - 1])
    points = [network.measured(when) for when in [*times, length]]
    node = NodeClock(points)
    errors, shares = [], []
    for _ in range(100):
        true = rng.uniform(0, length)
        error = abs(node.corrected(network.own(true)) - 1.75e9 - true)
        errors.append(error)
        shares.append(error / (node.bound(network.own(true)) + 1e-6))  # what a Unix time in 64 bits can tell
    return max(errors), max(100e-6, max(one.bound for one in points)), max(shares)


def test_any_offset_and_drift_is_found_within_half_a_round_trip_and_the_bound_holds() -> None:
    cases = [whole_job(random.Random(seed)) for seed in range(CASES)]
    assert all(error <= allowed for error, allowed, _ in cases)
    assert sum(share <= 1 for _, _, share in cases) >= 0.95 * CASES


def test_the_quickest_round_trip_counts() -> None:
    slow, quick = Trip(100.0, 50.9, 50.9, 101.0), Trip(200.0, 150.125, 150.25, 200.375)
    assert measured([slow, quick, slow]) == Measured(200.1875, 50.0, 0.125)
    assert measured([]) is None


def test_a_clock_that_was_set_says_so_by_its_bound() -> None:
    node = NodeClock([Measured(100.0, 0.0, 1e-4), Measured(160.0, 2.0, 1e-4)])
    assert node.bound(130.0) > 2.0
    assert NodeClock([Measured(100.0, 0.0, 1e-4), Measured(160.0, 1e-3, 1e-4)]).bound(130.0) == 1e-4


def test_without_measurements_a_time_stays_as_it_is() -> None:
    assert NodeClock([]).corrected(12.0) == 12.0
    alone = NodeClock([Measured(100.0, 5.0, 1e-4)])
    assert alone.corrected(110.0) == 105.0 and 1e-4 < alone.bound(110.0) < 1e-3


def test_damaged_files_and_lines_are_passed_over(tmp_path) -> None:
    good = [
        {"format": "hpcsynapse-clock", "version": 1, "attempt": "0", "host": "b", "reference": "a"},
        {"time": 10.0, "offset": 1.0, "bound": 0.1},
        {"time": "x", "offset": 1.0, "bound": 0.1},
        {"time": 10.0, "offset": 1e300, "bound": 0.1},
        {"time": 10.0, "offset": 1.0, "bound": -1},
        {"offset": None},
    ]
    (tmp_path / "node-00001.0.clock").write_text("\n".join(map(json.dumps, good)) + '\n{"time": 11.0, "off')
    (tmp_path / "node-00002.0.clock").write_bytes(b"\xff\x00")
    (tmp_path / "node-00003.0.clock").write_text("")
    (tmp_path / "node-00004.0.clock").write_text('{"format": "hpcsynapse-clock", "version": 9}\n')
    found = read_clocks(tmp_path)
    assert found.of("0", "b").points == [Measured(10.0, 1.0, 0.1)]
    assert found.corrected("0", "b", 10.0) == 9.0
    assert found.corrected("0", "a", 10.0) == 10.0 == found.corrected("0", "c", 10.0)
    assert found.of("0", "a") is not None and found.of("0", "c") is None
    assert not read_clocks(tmp_path / "absent")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose job has two nodes, both of which are this host by its loopback address."""
    found = RunDirectory.create(tmp_path / "runs", JobSpec(name="run"))
    found.evidence("7").mkdir(parents=True)
    monkeypatch.setattr(module, "interface_towards", lambda _: "lo")
    monkeypatch.setattr(module, "_LOOK", 0.05)
    return found


def service(run, node, ahead=0.0, host=None, nodes=2):
    base = module.wall_clock()
    found = ClockService(run, "7", node, nodes, lambda: base() + ahead)
    found._host = host or f"n{node}"
    return found


def test_the_nodes_of_a_job_measure_their_clocks_from_its_begin_to_its_end(run) -> None:
    first, second = service(run, 0), service(run, 1, ahead=3.0)
    second.begin()
    first.begin()
    wait_until(lambda: read_clocks(run.timings).of("7", "n1"), 30, "a measurement")
    began = time.monotonic()
    second.finish()
    first.finish()
    assert time.monotonic() - began < 5
    clock = read_clocks(run.timings).of("7", "n1")
    assert len(clock.points) >= 2  # at the begin and at the end
    for one in clock.points:
        assert abs(one.offset - 3.0) <= one.bound + 1e-6
    assert not [thread for thread in threading.enumerate() if thread.name == "clock"]


def test_a_job_of_one_node_or_on_one_host_measures_nothing(run) -> None:
    alone = service(run, 0, nodes=1)
    alone.begin()
    alone.finish()
    assert not alone.place.exists()
    first, second = service(run, 0, host="same"), service(run, 1, host="same")
    first.begin()
    second.begin()
    wait_until(lambda: not second._thread.is_alive(), 30, "the end of who asks")
    second.finish()
    first.finish()
    assert not list(run.timings.glob("*.clock"))


def test_only_who_has_the_key_is_answered_and_too_many_others_end_it(run, monkeypatch) -> None:
    monkeypatch.setattr(module, "_STRANGERS", 30)
    first = service(run, 0)
    first.begin()
    wait_until(first.place.exists, 30, "the place")
    told = json.loads(first.place.read_text())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.connect((told["address"], told["port"]))
        stranger.settimeout(0.05)
        size = module._PACKET.size
        forged = module._sealed(module._QUESTION, bytes(16), b"another key", 0.0, lambda: 0.0)
        for packet in (b"", b"x", bytes(size), forged, forged[:-1], forged + b"x", module._MAGIC + bytes(size - 4)):
            stranger.send(packet)
            with pytest.raises(TimeoutError):
                stranger.recv(1000)
        assert first._thread.is_alive()
        for _ in range(40):
            try:
                stranger.send(forged)
            except ConnectionRefusedError:
                break
        wait_until(lambda: not first._thread.is_alive(), 30, "the end of who answers")
    first.finish()


def test_an_answer_that_is_late_foreign_or_replayed_is_none(run) -> None:
    key, asking = b"k" * 32, service(run, 1)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        client.settimeout(2.0)

        def answer():
            packet, sender = server.recvfrom(1000)
            nonce, _, _ = module._opened(packet, module._QUESTION, key)
            old = module._sealed(module._ANSWER, bytes(16), key, 1.0, lambda: 1.0)
            forged = module._sealed(module._ANSWER, nonce, b"x", 1.0, lambda: 1.0)
            for reply in (packet, old, forged, module._sealed(module._ANSWER, nonce, key, 5.0, lambda: 6.0)):
                server.sendto(reply, sender)

        thread = threading.Thread(target=answer)
        thread.start()
        trip = asking._trip(client, key)
        thread.join()
    assert (trip.received, trip.answered) == (5.0, 6.0)


def test_a_first_node_that_never_comes_keeps_nobody(run) -> None:
    second = service(run, 1)
    second.begin()
    second.finish()
    assert not second._thread.is_alive() and not list(run.timings.iterdir())
