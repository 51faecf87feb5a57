"""Measures how far the clocks of a job's nodes are apart: round trips between the first node and each of the others.

The first node answers on a UDP port of its address in the job's own network, and says in the run directory where; only
who knows the run's key is answered, with as many bytes as were sent. Every other node asks a few times in a row, now
and then, keeps the quickest round trip (Cristian 1989, RFC 5905: its offset is wrong by half of it at most), and
writes it beside the step records. All of it is done in threads of a process that nothing waits for.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, repeat
from pathlib import Path

from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.files import read_json, write_json
from hpcsynapse.job.network import address_of, interface_towards
from hpcsynapse.runs.clocks import Measured, add_measured, begin_clock_file, clock_file
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.secret import ensure_secret

_PACKET = struct.Struct("!4sB16sdd32s")  # magic, kind, nonce, two times of the answering clock, signature
_MAGIC, _QUESTION, _ANSWER = b"HSCK", 1, 2
_TRIPS = 16  # in a row
_TRIP_SECONDS = 0.5  # for one of them
_BURST_SECONDS = 2.0  # for all of them
_LAST_SECONDS = 0.3  # for those at the end, for which a node waits
_PAUSES = (5.0, 15.0, 30.0)  # seconds between measurements at first
_PAUSE = 60.0  # and then
_LOOK = 1.0  # seconds between looks for the address of the first node, and of the answering thread for its end
_LOOKS = 300
_STRANGERS = 10_000  # packets of others, after which nobody is answered any more
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Trip:
    """One round trip: sent and back by the own clock, received and answered by the other's (Unix times)."""

    sent: float
    received: float
    answered: float
    back: float

    @property
    def rtt(self) -> float:
        """Seconds on the way, there and back."""
        return max(0.0, (self.back - self.sent) - (self.answered - self.received))


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    address: str
    port: int


def measured(trips: Iterable[Trip]) -> Measured | None:
    """Return what the quickest round trip says of the own clock, None where there is none."""
    quickest = min(trips, key=lambda one: one.rtt, default=None)
    if quickest is None:
        return None
    offset = ((quickest.sent - quickest.received) + (quickest.back - quickest.answered)) / 2
    return Measured((quickest.sent + quickest.back) / 2, offset, quickest.rtt / 2)


def wall_clock() -> Clock:
    """Return the clock of step records: Unix time now, on by a clock that is never set."""
    anchor = time.time() - time.perf_counter()
    return lambda: anchor + time.perf_counter()


class ClockService:
    """The part of one node in a start of a job; `node` 0 answers, the others ask.

    `begin` returns at once, `finish` after 0.3 s at most; neither raises.
    """

    def __init__(self, run: RunDirectory, attempt: str, node: int, nodes: int, clock: Clock | None = None) -> None:
        self._run, self._attempt, self._node, self._nodes = run, attempt, node, nodes
        self._clock = clock or wall_clock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._host = socket.gethostname()

    @property
    def place(self) -> Path:
        """The file that tells where the first node answers."""
        return self._run.evidence(self._attempt) / "clock.json"

    def begin(self) -> None:
        """Start to answer or to ask; a job of one node does nothing."""
        if self._nodes > 1:
            self._thread = threading.Thread(target=self._work, name="clock", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Measure for the last time, and end."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(_LAST_SECONDS)

    def _work(self) -> None:
        # Without a clock that is measured the reports go by the ends of exchanges; the job is not to notice.
        with suppress(OSError, HpcSynapseError):
            key = sha256(ensure_secret(self._run) + self._attempt.encode()).digest()
            self._answer(key) if self._node == 0 else self._ask(key)

    def _answer(self, key: bytes) -> None:
        interface = interface_towards(os.environ.get("HPCSYNAPSE_PEER", ""))
        address = address_of(interface) if interface else None
        if address is None:  # no other host, or nobody knows by which way to it
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((address, 0))
            server.settimeout(_LOOK)
            write_json(self.place, {"host": self._host, "address": address, "port": server.getsockname()[1]})
            strangers = 0
            while not self._over.is_set() and strangers < _STRANGERS:
                with suppress(TimeoutError):
                    packet, sender = server.recvfrom(_PACKET.size + 1)
                    received = self._clock()
                    nonce = _opened(packet, _QUESTION, key)
                    strangers += nonce is None
                    if nonce is not None:
                        server.sendto(_sealed(_ANSWER, nonce[0], key, received, self._clock), sender)

    def _ask(self, key: bytes) -> None:
        told = self._first_node()
        if told is None or told.host == self._host:
            return
        path = clock_file(self._run.timings, self._node, self._attempt)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((told.address, told.port))
            begin_clock_file(path, attempt=self._attempt, node_rank=self._node, host=self._host, reference=told.host)
            for pause in chain(_PAUSES, repeat(_PAUSE)):
                self._measure(client, key, path, _BURST_SECONDS)
                if self._over.wait(pause):
                    self._measure(client, key, path, _LAST_SECONDS)
                    return

    def _first_node(self) -> _Place | None:
        """Wait for the first node to say where it answers; None where it does not."""
        for _ in range(_LOOKS):
            told = read_json(self.place) or {}
            host, address, port = told.get("host"), told.get("address"), told.get("port")
            if isinstance(host, str) and isinstance(address, str) and isinstance(port, int):
                return _Place(host, address, port)
            if self._over.wait(_LOOK):
                break
        return None

    def _measure(self, client: socket.socket, key: bytes, path: Path, seconds: float) -> None:
        """Make round trips for so many seconds at most, and write down what the quickest tells."""
        end, trips = time.monotonic() + seconds, list[Trip]()
        with suppress(ConnectionError):  # nobody answers there (any more)
            while len(trips) < _TRIPS and (left := end - time.monotonic()) > 0:
                client.settimeout(min(left, _TRIP_SECONDS))
                if trip := self._trip(client, key):
                    trips.append(trip)
        if found := measured(trips):
            with suppress(OSError):  # a full disk: this one is missed
                add_measured(path, found, rtt=2 * found.bound, trips=len(trips))

    def _trip(self, client: socket.socket, key: bytes) -> Trip | None:
        nonce = secrets.token_bytes(16)
        question = _sealed(_QUESTION, nonce, key, 0.0, lambda: 0.0)
        try:
            sent = self._clock()
            client.send(question)
            while True:
                packet = client.recv(_PACKET.size + 1)
                back = self._clock()
                if (told := _opened(packet, _ANSWER, key)) and told[0] == nonce:
                    return Trip(sent, told[1], told[2], back)
        except TimeoutError:
            return None


def _sealed(kind: int, nonce: bytes, key: bytes, received: float, clock: Clock) -> bytes:
    """Return a packet with its signature; what the clock shows is taken as late as possible."""
    told = _PACKET.pack(_MAGIC, kind, nonce, received, clock(), b"")[:-32]
    return told + hmac.digest(key, told, "sha256")


def _opened(packet: bytes, kind: int, key: bytes) -> tuple[bytes, float, float] | None:
    """Return nonce and times of a packet of that kind, None where it is none or nobody signed it who has the key."""
    if len(packet) != _PACKET.size or packet[:5] != _MAGIC + bytes([kind]):
        return None
    if not hmac.compare_digest(hmac.digest(key, packet[:-32], "sha256"), packet[-32:]):
        return None
    _, _, nonce, received, answered, _ = _PACKET.unpack(packet)
    return nonce, received, answered
