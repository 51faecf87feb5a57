"""ps-sync: m of n gradients are averaged, versions keep them apart, late ones are dropped."""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import ServerOptions
from hpcsynapse.trainer.parameter_server.frames import DROPPED, STOPPING, Frame, Kind
from hpcsynapse.trainer.parameter_server.members import Members
from hpcsynapse.trainer.parameter_server.server_records import ServerRecords
from hpcsynapse.trainer.parameter_server.state import Part
from hpcsynapse.trainer.parameter_server.updates import Requester, Updates

_TELL = 1.0  # seconds between signs of life to a worker that waits


class Rounds(Updates):
    """m whole gradients of the current version are averaged and applied; one of another version is dropped.

    m is `ps.needed`, or all workers, but never more than have steps left to make. All workers count steps alike: one
    that is late goes on where the others are. A worker that was started again may come with a step that this server has
    made and another has not: it is dropped here and counts there. One that is told to stop stops all, before the next
    update.
    """

    def __init__(self, part: Part, members: Members, records: ServerRecords, options: ServerOptions) -> None:
        super().__init__(part, members, records, options)
        self._changed = threading.Condition()
        self._given: dict[int, tuple[Frame, list[Tensor]]] = {}
        self._reason = ""

    def steps(self, worker: int) -> int:
        """Return how many steps the run has behind it."""
        return max(self.reached, self.members.first_step)

    def told(self, worker: int) -> tuple[int, int]:
        """Return version and steps, which belong together: a version told with a later step would skip that step."""
        with self._changed:
            return super().told(worker)

    @property
    def needed(self) -> int:
        """Gradients for an update."""
        workers = self.members.workers
        return max(1, min(self.options.needed or workers, workers - len(self.members.finished)))

    @property
    def problem(self) -> str:
        """Say which workers are missing when too few are left for an update that somebody waits for."""
        members = self.members
        if set(members.here) <= set(members.finished) or len(members.pending) >= self.needed:
            return ""
        lost = ", ".join(str(worker) for worker in self.members.missing[:16])
        return (
            f"{self.needed} gradients are needed for an update, but workers {lost} were lost (or never came) and "
            f"did not return within {self.members.rejoin_limit:g} s"
        )

    def push(self, requester: Requester, frame: Frame) -> None:
        """Take a whole gradient, wait until it was used, and answer."""
        gradients = []
        try:
            for chunk in self.part.chunks:
                gradients.append(requester.take(chunk, whole=True))
        except OSError:
            self.records.count("interrupted", requester.worker)
            raise
        with self._changed:
            staleness = max(0, self.version - frame.version)
            flags = DROPPED if frame.version != self.version or frame.step < self.reached else 0
            if not flags:
                self._given[requester.worker] = (frame, gradients)
                if self._due:  # before anybody adds to it
                    self._update()
        while not flags and not self._used(frame.version):
            flags = DROPPED | STOPPING if self.members.stopping else 0
            requester.answer(Frame(Kind.WAIT))
        if flags & DROPPED:
            self.records.count("dropped", requester.worker)
        version, step = self.told(requester.worker)
        self.members.advance(requester.worker, step)
        requester.answer(Frame(Kind.PARAMETERS, len(self.part.view), flags, version, step, staleness))
        for chunk in self.part.chunks:
            requester.give(chunk)

    @property
    def _due(self) -> bool:
        return len(self._given) >= self.needed and not (self._reason or self.members.stopping)

    def _used(self, version: int) -> bool:
        """Update if that is possible now, else wait a while; return whether a version is superseded."""
        with self._changed:
            if self.version == version and not (self._due or self._reason or self.members.stopping):
                self._changed.wait(_TELL)
            if self._reason:
                raise TrainError(self._reason)
            if self.version == version and self._due:
                self._update()
            return self.version != version

    def _update(self) -> None:
        frames = [frame for frame, _ in self._given.values()]
        newest = max(frames, key=lambda frame: frame.step)
        for number, chunk in enumerate(self.part.chunks):
            first, *rest = (gradients[number] for _, gradients in self._given.values())
            for other in rest:
                first.add_(other)
            chunk.apply(first.div_(len(frames)), newest.rate)
        for worker in self._given:
            self.records.count("applied", worker)
        self._given.clear()
        self.version += 1
        self.reached = max(self.reached, newest.step + 1)
        self.records.update(self.version, sum(frame.samples for frame in frames), 0)
        self._changed.notify_all()

    def save(self) -> dict[str, Any]:
        """Return the state as it is saved, all of one version."""
        with self._changed:
            return super().save()

    def fail(self, reason: str) -> None:
        """End every wait with an error."""
        with self._changed:
            self._reason = reason
            self._changed.notify_all()
