"""What a server knows of each worker: whether it is there, how far it came, and when it is given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from hpcsynapse.trainer.parameter_server.frames import NOBODY


@dataclass(slots=True)
class Member:
    """One worker; `since` is when `here` last changed."""

    since: float
    here: bool = False
    came: bool = False  # was here at least once
    done: bool = False  # has made its last step
    left: bool = False  # said goodbye
    early: bool = False  # and had not made its last step
    step: int | None = None  # steps made
    connection: int = 0  # number of its newest connection


class Members:
    """All workers of a run. A worker that is lost may come back; after a limit nobody waits for it any longer.

    The limits (seconds) are `start_limit` for a worker that never came, `rejoin_limit` for one that was lost.
    """

    def __init__(self, workers: int, start_limit: float, rejoin_limit: float) -> None:
        self.start_limit, self.rejoin_limit = start_limit, rejoin_limit
        self.first_step = 0  # of a worker that is not known
        self._lock = threading.Lock()
        now = time.monotonic()
        self.workers = workers
        self._all = [Member(since=now) for _ in range(workers)]

    def join(self, worker: int) -> int:
        """Note that a worker is here and return the number of this connection; an older connection of it is void."""
        with self._lock:
            member = self._all[worker]
            member.here, member.came, member.since, member.connection = (
                True,
                True,
                time.monotonic(),
                member.connection + 1,
            )
            member.left = member.done = member.early = False
            return member.connection

    def lose(self, worker: int, connection: int) -> bool:
        """Note that a connection ended and return whether the worker is lost: it had not said goodbye or come anew."""
        with self._lock:
            member = self._all[worker]
            if member.connection != connection or not member.here:
                return False
            member.here, member.since = False, time.monotonic()
            return not member.left

    def finish(self, worker: int, left: bool) -> None:
        """Note that a worker has made its last step, or `left` for good."""
        with self._lock:
            member = self._all[worker]
            member.early = left and not member.done
            member.done, member.left = True, left
            if left:
                member.here, member.since = False, time.monotonic()

    def advance(self, worker: int, step: int) -> None:
        """Note how many steps a worker has made."""
        with self._lock:
            self._all[worker].step = step

    def step(self, worker: int) -> int:
        """Return how many steps a worker has made; one that is not known begins where the run began."""
        step = self._all[worker].step
        return self.first_step if step is None else step

    @property
    def chief(self) -> int:
        """The worker with the lowest number of those who are here."""
        return next((number for number, member in enumerate(self._all) if member.here), NOBODY)

    @property
    def pending(self) -> list[int]:
        """Workers that have steps to make, and are here or not given up."""
        now = time.monotonic()
        return [
            number for number, member in enumerate(self._all) if not member.done and not self._given_up(member, now)
        ]

    @property
    def missing(self) -> list[int]:
        """Workers that have steps to make and are not here."""
        return [number for number, member in enumerate(self._all) if not member.done and not member.here]

    @property
    def here(self) -> list[int]:
        """Workers that are connected."""
        return [number for number, member in enumerate(self._all) if member.here]

    @property
    def finished(self) -> list[int]:
        """Workers that have made their last step or said goodbye."""
        return [number for number, member in enumerate(self._all) if member.done]

    @property
    def stopping(self) -> bool:
        """Whether a worker has left before its last step, as it does when it is told to stop."""
        return any(member.early for member in self._all)

    @property
    def nobody_came(self) -> bool:
        """Whether no worker has been here."""
        return not any(member.came for member in self._all)

    @property
    def over(self) -> bool:
        """Whether all have left or are given up."""
        now = time.monotonic()
        return all(member.left or self._given_up(member, now) for member in self._all)

    def others(self, worker: int) -> int:
        """Return how many other workers are not done and not given up."""
        return sum(number != worker for number in self.pending)

    def save(self) -> dict[str, list[int]]:
        """Return steps by worker, and who has left, as they are saved."""
        with self._lock:
            steps = [-1 if member.step is None else member.step for member in self._all]
            return {"steps": steps, "left": [number for number, member in enumerate(self._all) if member.left]}

    def restore(self, steps: Iterable[int], left: Iterable[int], same_job: bool) -> None:
        """Take up what was saved.

        A server that is started again within the `same_job` knows who was here before, and that those who left will not
        return; once all had left, that job was over.
        """
        gone = list(left)
        same_job = same_job and len(gone) < self.workers
        for number, step in enumerate(steps):
            self._all[number].step = None if step < 0 else step
            self._all[number].came = same_job and step >= 0
        for number in gone if same_job else ():
            self._all[number].done = self._all[number].left = self._all[number].came = True

    def _given_up(self, member: Member, now: float) -> bool:
        limit = self.rejoin_limit if member.came else self.start_limit
        return not member.here and not member.left and now - member.since > limit
