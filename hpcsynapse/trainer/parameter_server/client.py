"""A worker's connection to one server, and the exchange with several at once: both directions at the same time."""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Callable, Sequence

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.parameter_server import frames, greeting
from hpcsynapse.trainer.parameter_server.frames import CHUNK, EMPTY, HEADER, Frame, FrameError, Kind, RefusedError
from hpcsynapse.trainer.parameter_server.greeting import Greeting

_PAUSES = (0.05, 1.5, 1.0)  # seconds between tries: the first, the growth, the longest
_AT_ONCE = 2 * CHUNK  # bytes offered to one call
_LOOK = 1000  # milliseconds that one wait takes at most
_log = logging.getLogger(__name__)


class Link:
    """The connection to one server, made anew as often as it breaks; `view` is where its parameters lie here."""

    def __init__(self, address: str, key: bytes, mine: Greeting, view: memoryview, gradient: memoryview) -> None:
        self.address, self.greeting, self.view, self.gradient = address, mine, view, gradient
        self._key = key
        self.version = 0  # of the parameters that lie here, whatever the server holds by now
        self.empty = False
        self.connection: socket.socket | None = None

    def connect(self, end: float, limit: float, alive: Callable[[], None]) -> None:
        """Find the server until `end`, the `limit` (s) having begun before that, and greet it; raises TrainError."""
        pause, growth, longest = _PAUSES
        while True:
            alive()
            try:
                self._try(max(0.1, min(greeting.LIMIT, end - time.monotonic())))
                return
            except RefusedError as error:
                raise TrainError(f"parameter server {self.address} refuses this worker: {error}") from error
            except (OSError, FrameError) as error:
                if time.monotonic() + pause > end:
                    raise TrainError(f"no parameter server at {self.address} within {limit:g} s: {error}") from error
            time.sleep(pause)
            pause = min(longest, pause * growth)

    def _try(self, limit: float) -> None:
        host, _, port = self.address.rpartition(":")
        connection = socket.create_connection((host.strip("[]"), int(port)), limit)
        try:
            if connection.getsockname() == connection.getpeername():  # TCP lets a port connect to itself
                raise ConnectionRefusedError("nobody listens")
            frames.prepare(connection, greeting.LIMIT)
            welcome = greeting.ask(connection, self._key, self.greeting)
            connection.setblocking(False)
        except BaseException:
            connection.close()
            raise
        self.connection, self.empty = connection, bool(welcome.flags & EMPTY)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Transfer:
    """One request to one server and its answer; moved on whenever the connection is ready for more."""

    def __init__(self, link: Link, request: Frame) -> None:
        self.link, self.request = link, request
        self.answer: Frame | None = None
        self.error: Exception | None = None if link.connection else ConnectionError("not connected")
        body = {Kind.PUSH: link.gradient, Kind.GIVE: link.view}.get(Kind(request.kind), memoryview(b""))
        head = request._replace(version=link.version, size=len(body)).pack()
        self._out = [memoryview(head), body] if len(body) else [memoryview(head)]
        self._answers: dict[int, int] = {Kind.PARAMETERS: len(link.view), Kind.OK: 0, Kind.WAIT: 0}
        self._header = memoryview(bytearray(HEADER))
        self._in, self._found = self._header, 0  # where the next bytes belong, and how many of them have come
        self.last = time.monotonic()

    @property
    def _connection(self) -> socket.socket:
        if self.link.connection is None:
            raise ConnectionError("not connected")
        return self.link.connection

    @property
    def wants(self) -> int:
        """What to wait for, as select.poll names it; 0 when all is done."""
        if self.error is not None or (self.answer is not None and self._found == len(self._in) and not self._out):
            return 0
        return select.POLLIN | (select.POLLOUT if self._out else 0)

    def move(self, events: int) -> None:
        """Send and receive what is possible now."""
        self.last = time.monotonic()
        try:
            if events & ~select.POLLOUT:
                self._receive()
            if events & select.POLLOUT and self._out:
                self._send()
        except BlockingIOError:
            pass
        except (OSError, FrameError, RefusedError) as error:
            self.error = error

    def _send(self) -> None:
        try:
            count = self._connection.send(self._out[0][:_AT_ONCE])
        except BlockingIOError:
            return
        except OSError:  # why it was closed may still be to be read
            self._out.clear()
            return
        self._out[0] = self._out[0][count:]
        if not len(self._out[0]):
            del self._out[0]

    def _receive(self) -> None:
        count = self._connection.recv_into(self._in[self._found : self._found + _AT_ONCE])
        if not count:
            raise ConnectionError("closed by the other end")
        self._found += count
        if self._found == len(self._in) and self.answer is None:
            self._begin_body(frames.unpack(self._header, self._answers))
        if self._found == len(self._in) and self.answer is not None and self.answer.kind == Kind.ERROR:
            raise frames.refusal(self._in)

    def _begin_body(self, frame: Frame) -> None:
        if frame.kind == Kind.WAIT:
            self._found = 0
            return
        self.answer = frame
        if frame.kind == Kind.PARAMETERS:
            self._in, self._found = self.link.view, 0
        elif frame.kind == Kind.ERROR:
            self._in, self._found = memoryview(bytearray(frame.size)), 0


def exchange(transfers: Sequence[Transfer], limit: float, alive: Callable[[], None]) -> None:
    """Move transfers until all are at their end, or one has an `error`: it broke, or was silent for `limit` seconds.

    The connections of those that have an error are closed.
    """
    poller, going = select.poll(), {}
    for transfer in transfers:
        transfer.last = time.monotonic()
        if transfer.wants and transfer.link.connection is not None:
            going[transfer.link.connection.fileno()] = transfer
            poller.register(transfer.link.connection, transfer.wants)
    while going and all(transfer.error is None for transfer in transfers):
        asked = time.monotonic()
        ready = poller.poll(_LOOK)
        _forgive(time.monotonic() - asked - 2 * _LOOK / 1000, transfers)
        for number, events in ready:
            before = going[number].wants
            going[number].move(events)
            _go_on(poller, going, number, before)
            alive()
        for transfer in going.values():
            if time.monotonic() - transfer.last > limit:
                transfer.error = TimeoutError(f"nothing came for {limit:g} s")
    for transfer in transfers:
        if transfer.error is not None:
            transfer.link.close()


def _forgive(longer: float, transfers: Sequence[Transfer]) -> None:
    """Leave out what a wait took longer than any does: this process was suspended meanwhile, with its servers."""
    for transfer in transfers:
        transfer.last += max(0.0, longer)


def _go_on(poller: select.poll, going: dict[int, Transfer], number: int, before: int) -> None:
    """Wait for what a transfer wants next, or for it no longer."""
    wants = going[number].wants
    if not wants:
        poller.unregister(number)
        del going[number]
    elif wants != before:
        poller.modify(number, wants)
