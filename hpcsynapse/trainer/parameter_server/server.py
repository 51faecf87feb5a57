"""One server: a thread for every connection; what goes wrong on one ends that one alone."""

from __future__ import annotations

import logging
import socket
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import ServerOptions, TrainSpec
from hpcsynapse.trainer.parameter_server import frames, greeting
from hpcsynapse.trainer.parameter_server.connection import WorkerConnection
from hpcsynapse.trainer.parameter_server.frames import EMPTY, Frame, FrameError, Kind, RefusedError
from hpcsynapse.trainer.parameter_server.layout import part
from hpcsynapse.trainer.parameter_server.members import Members
from hpcsynapse.trainer.parameter_server.rounds import Rounds
from hpcsynapse.trainer.parameter_server.server_records import ServerRecords
from hpcsynapse.trainer.parameter_server.state import Part
from hpcsynapse.trainer.parameter_server.updates import Immediate, Updates

SPARE = 64  # connections beside those of the workers that may be open at a time
_PAUSE = 0.2  # seconds after a connection that could not be accepted
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a server is for; `idle_limit` (s) is how long a worker may be silent."""

    train: TrainSpec
    options: ServerOptions
    server: int
    servers: int
    workers: int
    idle_limit: float


class RareWarnings:
    """Warnings that anybody on the network can cause, at most so many in a minute; the next one counts the others."""

    def __init__(self, most: int = 20, seconds: float = 60.0) -> None:
        self._most, self._seconds = most, seconds
        self._lock = threading.Lock()
        self._begin, self._said, self._left_out = time.monotonic(), 0, 0

    def say(self, text: str, *values: object) -> None:
        """Write a warning, or count it."""
        with self._lock:
            if time.monotonic() - self._begin > self._seconds:
                self._begin, self._said = time.monotonic(), 0
            if self._said >= self._most:
                self._left_out += 1
                return
            self._said += 1
            others, self._left_out = self._left_out, 0
        _log.warning(
            text + (" (and %d more since the last one)" if others else ""), *values, *([others] if others else [])
        )


class Server:
    """Accepts connections and answers them until it is closed."""

    def __init__(
        self, listener: socket.socket, key: bytes, plan: Plan, members: Members, records: ServerRecords
    ) -> None:
        self.plan, self.members, self.records = plan, members, records
        self.updates: Updates | None = None
        self.model = (0, b"")  # parameters in all servers, and the digest of what is trained
        self.changed = threading.Event()  # a worker has gone: whoever waits for the end looks again
        self._listener, self._key = listener, key
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(2 * plan.workers + SPARE)
        self._open: dict[int, socket.socket] = {}
        self._closing = False
        self._warnings = RareWarnings()

    def start(self) -> None:
        """Begin to accept."""
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def close(self) -> None:
        """Accept nobody any longer."""
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def hold(self, elements: int, digest: bytes) -> Updates:
        """Make room for this server's part of so many parameters, or return what there is.

        Raises TrainError when that is of another model.
        """
        plan = self.plan
        with self._lock:
            if self.updates is None:
                own = len(part(elements, plan.server, plan.servers))
                if not own:
                    raise TrainError(f"{elements} parameters are too few for {plan.servers} servers")
                rule = Rounds if plan.train.strategy == "ps-sync" else Immediate
                self.updates = rule(Part(own, plan.train), self.members, self.records, plan.options)
                self.model = (elements, digest)
            elif self.model != (elements, digest):
                raise TrainError(
                    f"another model or optimizer ({elements} parameters) than this run's ({self.model[0]}); "
                    "for a new one take another run name, or --set train.resume=false"
                )
            return self.updates

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError as error:  # such as no descriptor left, which may pass
                if self._closing:
                    return
                _log.warning("a connection cannot be accepted: %s", error)
                time.sleep(_PAUSE)
                continue
            if self._places.acquire(blocking=False):
                self._begin(connection, address)
            else:
                self._warnings.say("connection from %s closed: too many are open", address[0])
                connection.close()

    def _begin(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        try:
            threading.Thread(target=self._guarded, args=(connection, address), daemon=True).start()
        except RuntimeError as error:  # no thread left
            self._warnings.say("connection from %s closed: %s", address[0], error)
            connection.close()
            self._places.release()

    def _guarded(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        peer = f"{address[0]}:{address[1]}"
        try:
            self._talk(connection, peer)
        except (FrameError, OSError) as error:
            self._warnings.say("connection from %s closed: %s", peer, error)
        except TrainError as error:
            self._warnings.say("connection from %s closed: %s", peer, error)
            with suppress(OSError):
                greeting.refuse(connection, str(error))
        except Exception:  # noqa: BLE001 - whatever it is, the other connections go on
            self._warnings.say("connection from %s closed: %s", peer, traceback.format_exc())
        finally:
            self.records.look()
            connection.close()
            self._places.release()

    def _talk(self, connection: socket.socket, peer: str) -> None:
        frames.prepare(connection, greeting.LIMIT)
        guest = greeting.answer(connection, self._key)
        worker = guest.greeting.worker
        self._check(guest.greeting)
        updates = self.hold(guest.greeting.elements, guest.greeting.digest)
        number = self._register(worker, connection)
        try:
            serving = WorkerConnection(connection, worker, updates, self.plan.idle_limit)
            guest.welcome(
                serving.about(Frame(Kind.WELCOME, flags=0 if updates.filled else EMPTY, version=updates.version))
            )
            _log.info("worker %d is here (%s)", worker, peer)
            frames.prepare(connection, self.plan.idle_limit)
            while serving.serve():
                pass
        finally:
            if self.members.lose(worker, number):
                _log.warning("worker %d was lost", worker)
            self.changed.set()

    def _register(self, worker: int, connection: socket.socket) -> int:
        """Note that a worker is here; a connection that it left behind ends."""
        with self._lock:
            before, self._open[worker] = self._open.get(worker), connection
            number = self.members.join(worker)
        if before is not None:
            with suppress(OSError):
                before.shutdown(socket.SHUT_RDWR)
        return number

    def _check(self, told: greeting.Greeting) -> None:
        plan = self.plan
        if (told.server, told.servers) != (plan.server, plan.servers):
            raise RefusedError(f"this is server {plan.server} of {plan.servers}, not {told.server} of {told.servers}")
        if told.workers != plan.workers or told.worker >= plan.workers:
            raise RefusedError(
                f"worker {told.worker} of {told.workers} does not belong to a run of {plan.workers} workers"
            )
