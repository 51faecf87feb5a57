"""One connection of one worker, after the greeting: requests and their answers."""

from __future__ import annotations

import logging
import socket
import time

import torch
from torch import Tensor

from hpcsynapse.trainer.parameter_server import frames
from hpcsynapse.trainer.parameter_server.frames import CHUNK, Frame, FrameError, Kind
from hpcsynapse.trainer.parameter_server.layout import as_bytes
from hpcsynapse.trainer.parameter_server.state import Chunk
from hpcsynapse.trainer.parameter_server.updates import Updates

_PAUSE = 0.2  # seconds between looks whether another worker has given all parameters
_log = logging.getLogger(__name__)


class WorkerConnection:
    """Receives one request after another; each method raises OSError when the worker is gone or silent for `limit` s.

    The memory for gradients is taken with the first of them: one chunk where they are applied as they arrive, else the
    whole part.
    """

    def __init__(self, connection: socket.socket, worker: int, updates: Updates, limit: float) -> None:
        self.worker = worker
        self._connection, self._updates, self._limit = connection, updates, limit
        self._part = updates.part
        size = len(self._part.view)
        self._sizes: dict[int, int] = {
            Kind.PUSH: size,
            Kind.GIVE: size,
            Kind.PULL: 0,
            Kind.PING: 0,
            Kind.DONE: 0,
            Kind.BYE: 0,
        }
        self._buffer, self._memory = torch.empty(0), memoryview(b"")
        self._received = self._sent = 0

    def serve(self) -> bool:
        """Receive one request and answer it; return whether the connection goes on. Raises FrameError too."""
        frame = frames.receive(self._connection, self._sizes, self._limit)
        if frame.kind in (Kind.PUSH, Kind.PULL) and not self._updates.filled:
            raise FrameError("it asks for parameters that nobody has given")
        match frame.kind:
            case Kind.PUSH:
                self._updates.push(self, frame)
            case Kind.PULL:
                self._pull()
            case Kind.GIVE:
                self._fill(frame)
            case Kind.DONE | Kind.BYE:
                self._updates.members.finish(self.worker, left=frame.kind == Kind.BYE)
                self.answer(Frame(Kind.OK, version=self._updates.version))
        self._updates.records.moved(self._received, self._sent)
        self._received = self._sent = 0
        return frame.kind != Kind.BYE

    def about(self, frame: Frame) -> Frame:
        """Return an answer with what every answer tells; the step of parameters belongs to their version."""
        members = self._updates.members
        step = frame.step if frame.kind == Kind.PARAMETERS else self._updates.steps(self.worker)
        return frame._replace(step=step, chief=members.chief, others=members.others(self.worker))

    def answer(self, frame: Frame) -> None:
        """Send a header with what every answer tells."""
        frames.send(self._connection, self.about(frame), more=bool(frame.size))

    def take(self, chunk: Chunk, whole: bool) -> Tensor:
        """Receive the gradient of a chunk, into memory for one chunk or for the whole part."""
        if not len(self._memory):
            size = len(self._part.view)
            self._buffer = torch.empty((size if whole else min(CHUNK, size)) // 4)
            self._memory = as_bytes(self._buffer)
        begin = chunk.begin if whole else 0
        end = begin + chunk.end - chunk.begin
        frames.fill(self._connection, self._memory[begin:end], self._limit)
        self._received += end - begin
        return self._buffer[begin // 4 : end // 4]

    def give(self, chunk: Chunk) -> None:
        """Send the parameters of a chunk, straight from where they are."""
        frames.send_part(self._connection, self._part.view[chunk.begin : chunk.end])
        self._sent += chunk.end - chunk.begin

    def _pull(self) -> None:
        version, step = self._updates.told(self.worker)
        self.answer(Frame(Kind.PARAMETERS, len(self._part.view), version=version, step=step))
        for chunk in self._part.chunks:
            self.give(chunk)

    def _fill(self, frame: Frame) -> None:
        """Take the parameters if nobody was faster, straight to where they belong; those of all others are let go."""
        updates, mine = self._updates, self._updates.filling.acquire(blocking=False)
        try:
            first = mine and not updates.filled
            unused = memoryview(b"" if first else bytearray(min(CHUNK, frame.size)))
            for chunk in self._part.chunks:  # the limit is for each: all together may take a slow link longer
                size = chunk.end - chunk.begin
                target = self._part.view[chunk.begin : chunk.end] if first else unused[:size]
                frames.fill(self._connection, target, self._limit)
            self._received += frame.size
            if first:
                updates.begin(frame.step)
                _log.info("parameters given by worker %d after step %d", self.worker, frame.step)
        finally:
            if mine:
                updates.filling.release()
        self._await_parameters()
        self.answer(Frame(Kind.OK, version=updates.version))

    def _await_parameters(self) -> None:
        while not self._updates.filled:
            if not self._updates.filling.locked() and not self._updates.filled:
                raise FrameError("the worker that gave the parameters first was lost")
            self.answer(Frame(Kind.WAIT))
            time.sleep(_PAUSE)
