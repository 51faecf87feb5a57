"""How worker and server prove to one another that they know the run's key, before anything else is said.

The server sends a random challenge; the worker answers with who it is and an HMAC-SHA256 over both and a challenge of
its own, which the server's welcome answers likewise. The key itself never travels. What follows on the connection is
neither encrypted nor signed.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import struct
from dataclasses import dataclass

from hpcsynapse.trainer.parameter_server.frames import TEXT, Frame, FrameError, Kind, RefusedError, fill, receive, send

LIMIT = 10.0  # seconds for any single wait of a greeting, on either side
_RANDOM = 32
_BODY = struct.Struct("<32s32sQIIII")  # the worker's challenge, then the fields of Greeting
_MAC = 32
_SIZES = {Kind.CHALLENGE: _RANDOM, Kind.HELLO: _BODY.size + _MAC, Kind.WELCOME: _MAC}


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """Who a worker is, and what it trains: `digest` stands for the model's shapes and the optimizer (32 bytes)."""

    digest: bytes
    elements: int
    worker: int
    workers: int
    server: int
    servers: int


def ask(connection: socket.socket, key: bytes, mine: Greeting) -> Frame:
    """Greet as a worker and return the server's welcome; raises FrameError, OSError, RefusedError."""
    challenge = _body(connection, Kind.CHALLENGE)
    own = secrets.token_bytes(_RANDOM)
    body = _BODY.pack(own, mine.digest, mine.elements, mine.worker, mine.workers, mine.server, mine.servers)
    send(connection, Frame(Kind.HELLO, _SIZES[Kind.HELLO]), body + _sign(key, b"worker", challenge, body))
    welcome = receive(connection, {Kind.WELCOME: _MAC}, LIMIT)
    proof = bytearray(_MAC)
    fill(connection, memoryview(proof), LIMIT)
    if not hmac.compare_digest(proof, _sign(key, b"server", challenge, own, welcome.pack())):
        raise FrameError("it does not know this run's key")
    return welcome


@dataclass(slots=True)
class Guest:
    """A connection that has proved to be a worker of this run, and waits for its welcome."""

    connection: socket.socket
    greeting: Greeting
    _key: bytes
    _challenges: tuple[bytes, bytes]

    def welcome(self, frame: Frame) -> None:
        """Let the worker in, and prove to be its server."""
        frame = frame._replace(kind=Kind.WELCOME, size=_MAC)
        send(self.connection, frame, _sign(self._key, b"server", *self._challenges, frame.pack()))


def answer(connection: socket.socket, key: bytes) -> Guest:
    """Challenge whoever has connected; raises FrameError, OSError, and RefusedError for one without the key."""
    challenge = secrets.token_bytes(_RANDOM)
    send(connection, Frame(Kind.CHALLENGE, _RANDOM), challenge)
    body = _body(connection, Kind.HELLO)
    told, proof = body[: _BODY.size], body[_BODY.size :]
    if not hmac.compare_digest(proof, _sign(key, b"worker", challenge, told)):
        raise RefusedError("this connection does not know the run's key")
    own, digest, elements, worker, workers, server, servers = _BODY.unpack(told)
    greeting = Greeting(
        digest=digest, elements=elements, worker=worker, workers=workers, server=server, servers=servers
    )
    return Guest(connection, greeting, key, (challenge, own))


def refuse(connection: socket.socket, reason: str) -> None:
    """Say why this connection ends, and say no more."""
    text = reason.encode()[:TEXT]
    send(connection, Frame(Kind.ERROR, len(text)), text)


def _body(connection: socket.socket, kind: Kind) -> bytes:
    frame = receive(connection, {kind: _SIZES[kind]}, LIMIT)
    body = bytearray(frame.size)
    fill(connection, memoryview(body), LIMIT)
    return bytes(body)


def _sign(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")
