"""What a server does with a gradient; here: it is applied at once (ps-async, mixed)."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Any, Protocol

from torch import Tensor

from hpcsynapse.spec.training import ServerOptions
from hpcsynapse.trainer.parameter_server.frames import DROPPED, Frame, Kind
from hpcsynapse.trainer.parameter_server.members import Members
from hpcsynapse.trainer.parameter_server.server_records import ServerRecords
from hpcsynapse.trainer.parameter_server.state import Chunk, Part


class Requester(Protocol):
    """A worker's connection, as an update sees it; its methods raise OSError when the worker is gone."""

    worker: int

    def take(self, chunk: Chunk, whole: bool) -> Tensor:
        """Receive the gradient of a chunk into this connection's memory: that of one chunk, or of the `whole` part."""
        ...

    def answer(self, frame: Frame) -> None:
        """Send a header with what every answer tells."""
        ...

    def give(self, chunk: Chunk) -> None:
        """Send the parameters of a chunk."""
        ...


class Updates(ABC):
    """A rule of updating; `version` counts updates, `reached` the steps that the whole run has made."""

    def __init__(self, part: Part, members: Members, records: ServerRecords, options: ServerOptions) -> None:
        self.part, self.members, self.records, self.options = part, members, records, options
        self.version = self.reached = 0
        self.filled = False  # whether somebody has given the parameters
        self.filling = threading.Lock()  # held while one worker's parameters arrive

    def begin(self, step: int) -> None:
        """Note that the part holds what a worker has given after so many steps."""
        self.members.first_step = step
        self.filled = True

    @abstractmethod
    def push(self, requester: Requester, frame: Frame) -> None:
        """Take a gradient and answer with parameters."""

    def steps(self, worker: int) -> int:
        """Return how many steps a worker has behind it."""
        return self.members.step(worker)

    def told(self, worker: int) -> tuple[int, int]:
        """Return the version of the parameters now, and the steps that a worker has behind it with them."""
        return self.version, self.steps(worker)

    def save(self) -> dict[str, Any]:
        """Return the state as it is saved; chunks may be of different versions."""
        return {"version": self.version, "reached": self.reached, "chunks": self.part.snapshot()}

    def restore(self, content: dict[str, Any]) -> None:
        """Take up saved state; raises TrainError when it does not fit."""
        self.part.restore(content["chunks"])
        self.version, self.reached, self.filled = content["version"], content["reached"], True

    def fail(self, reason: str) -> None:  # noqa: B027 - where nobody waits there is nobody to tell
        """End every wait with an error."""

    @property
    def problem(self) -> str:
        """Why the run cannot go on, or nothing."""
        return ""


class Immediate(Updates):
    """Every gradient is applied chunk by chunk while it arrives, and the new chunk goes back at once.

    Gradients are numbered as their headers arrive, and the answer carries that number as the version: those of others
    that arrive between it and the worker's next gradient are the latter's staleness. A chunk that is sent may already
    hold more than that. A gradient whose worker is lost in the middle stays applied as far as it came.
    """

    def __init__(self, part: Part, members: Members, records: ServerRecords, options: ServerOptions) -> None:
        super().__init__(part, members, records, options)
        self._lock = threading.Lock()

    def push(self, requester: Requester, frame: Frame) -> None:
        """Apply a gradient, unless it is staler than allowed."""
        limit = self.options.staleness_limit
        with self._lock:
            staleness = max(0, self.version - frame.version)
            dropped = limit is not None and staleness > limit
            self.version += not dropped
            version = self.version
        rate = frame.rate / (1 + staleness) if self.options.staleness_lr else frame.rate
        step, last = frame.step + 1, self.part.chunks[-1]
        answer = Frame(Kind.PARAMETERS, len(self.part.view), DROPPED if dropped else 0, version, step, staleness)
        whole = False
        try:
            requester.answer(answer)
            for chunk in self.part.chunks:
                gradient = requester.take(chunk, whole=False)
                if not dropped:
                    chunk.apply(gradient, rate)
                if chunk is last:  # before the worker can know it
                    whole = True
                    self._note(requester.worker, answer, frame.samples)
                requester.give(chunk)
        except OSError:
            if not whole:
                self.records.count("interrupted", requester.worker)
            raise

    def _note(self, worker: int, answer: Frame, samples: int) -> None:
        self.members.advance(worker, answer.step)
        self.records.count("dropped" if answer.flags else "applied", worker)
        if not answer.flags:
            self.records.update(answer.version, samples, answer.staleness)
