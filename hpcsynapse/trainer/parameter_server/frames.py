"""What travels between workers and parameter servers: a header of fixed size, and a body whose size its kind fixes."""

from __future__ import annotations

import math
import socket
import struct
import time
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from hpcsynapse.errors import TrainError

CHUNK = 1 << 20  # bytes that are received, applied and sent at a time
NOBODY = 0xFFFFFFFF  # as a worker's number
TEXT = 2048  # bytes of an error's text at most
_MAGIC = b"HSP1"  # the last character is the version
_HEADER = struct.Struct("<4sBB2xIIIQqqqd")
HEADER = _HEADER.size
_LARGEST = 1 << 62  # of any count
_ALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4))  # tcp(7): a host is gone


class Kind(IntEnum):
    """What a frame is; see the package's docstring."""

    CHALLENGE = 1
    HELLO = 2
    WELCOME = 3
    ERROR = 4  # body: text; whoever sends it closes the connection
    PUSH = 5
    PULL = 6
    GIVE = 7
    PING = 8
    DONE = 9
    BYE = 10
    PARAMETERS = 11
    OK = 12
    WAIT = 13  # before an answer that takes its time: the server is alive


EMPTY = 1  # bit of `flags`: the server has no parameters yet
DROPPED = 2  # bit of `flags`: the gradient was not used
STOPPING = 4  # bit of `flags`: a worker was told to stop, and so stops the run


class FrameError(Exception):
    """The other end sent what it must not; its connection is closed and nothing else happens."""


class RefusedError(TrainError):
    """The other end says why it will not go on."""


class Frame(NamedTuple):
    """One header.

    `size` is that of the body in bytes. A request carries the version that the worker pulled, the number of its `step`,
    the learning `rate` and the `samples` behind the gradient; an answer the version it stands for, the steps done so
    far, the gradient's `staleness` in versions, the number of the `chief`, and of the `others` who are not done.
    """

    kind: int
    size: int = 0
    flags: int = 0
    version: int = 0
    step: int = 0
    staleness: int = 0
    rate: float = 0.0
    samples: int = 0
    chief: int = NOBODY
    others: int = 0

    def pack(self) -> bytes:
        """Return the header as it travels."""
        return _HEADER.pack(
            _MAGIC,
            self.kind,
            self.flags,
            self.samples,
            self.chief,
            self.others,
            self.size,
            self.version,
            self.step,
            self.staleness,
            self.rate,
        )


def unpack(data: bytes | bytearray | memoryview, sizes: Mapping[int, int]) -> Frame:
    """Return the header in HEADER bytes; raises FrameError unless its kind and size are those of `sizes`.

    An error may come instead of anything, with up to TEXT bytes.
    """
    magic, kind, flags, samples, chief, others, size, version, step, staleness, rate = _HEADER.unpack(data)
    if magic != _MAGIC:
        raise FrameError(f"{bytes(magic)!r} begins no frame of this version")
    if kind == Kind.ERROR:
        fits = size <= TEXT
    elif kind in sizes:
        fits = size == sizes[kind]
    else:
        raise FrameError(f"a frame of kind {kind} has no place here")
    if not fits:
        raise FrameError(f"a {Kind(kind).name} frame of {size} bytes where {sizes.get(kind, TEXT)} belong")
    if not (0 <= step < _LARGEST and 0 <= version < _LARGEST and math.isfinite(rate) and rate >= 0):
        raise FrameError(f"step {step}, version {version} or rate {rate} cannot be")
    return Frame(kind, size, flags, version, step, staleness, rate, samples, chief, others)


def refusal(text: bytes | bytearray | memoryview) -> RefusedError:
    """Return the error with the text that the other end sent, in one line."""
    shown = bytes(text).decode(errors="replace")
    return RefusedError("".join(letter if letter.isprintable() else "?" for letter in shown))


def prepare(connection: socket.socket, limit: float) -> None:
    """Set a connection up: no waiting for more to send, a dead host is noticed, `limit` seconds for any single wait."""
    connection.setblocking(True)  # the kernel's own limits then hold, and one call takes a whole chunk
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    seconds = struct.pack("ll", int(limit), int(limit % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, seconds)


def fill(connection: socket.socket, target: memoryview, limit: float) -> None:
    """Receive exactly what fits into `target`; raises OSError when the other end is gone, or silent for `limit` s."""
    done, end = 0, time.monotonic() + limit
    while done < len(target):
        try:
            count = connection.recv_into(target[done:], len(target) - done, socket.MSG_WAITALL)
        except BlockingIOError:
            count = -1
        if not count:
            raise ConnectionError("closed by the other end")
        if count < 0 or (done + count < len(target) and time.monotonic() > end):
            raise TimeoutError(f"nothing more came within {limit:g} s")
        done += count


def receive(connection: socket.socket, sizes: Mapping[int, int], limit: float) -> Frame:
    """Return the next header; its body is still to be received. Raises FrameError, OSError, and RefusedError."""
    data = bytearray(HEADER)
    fill(connection, memoryview(data), limit)
    frame = unpack(data, sizes)
    if frame.kind == Kind.ERROR:
        text = bytearray(frame.size)
        fill(connection, memoryview(text), limit)
        raise refusal(text)
    return frame


def send(connection: socket.socket, frame: Frame, body: bytes | memoryview = b"", more: bool = False) -> None:
    """Send a header and its body, of which `more` follows by other calls; raises OSError."""
    try:
        if len(body) <= TEXT:
            connection.sendall(frame.pack() + bytes(body), socket.MSG_MORE if more else 0)
        else:
            connection.sendall(frame.pack(), socket.MSG_MORE)
            connection.sendall(body)
    except BlockingIOError:
        raise TimeoutError("nothing more was taken") from None


def send_part(connection: socket.socket, part: memoryview) -> None:
    """Send a part of a body; raises OSError."""
    try:
        connection.sendall(part)
    except BlockingIOError:
        raise TimeoutError("nothing more was taken") from None
