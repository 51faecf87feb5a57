"""All parameter servers of a run, as one worker sees them; a server that was lost is waited for, within a limit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hpcsynapse.errors import OverError, TrainError
from hpcsynapse.trainer.parameter_server.client import Link, Transfer, exchange
from hpcsynapse.trainer.parameter_server.frames import DROPPED, STOPPING, Frame, Kind, RefusedError
from hpcsynapse.trainer.parameter_server.greeting import Greeting
from hpcsynapse.trainer.parameter_server.layout import FlatModel, part

_PING = 1.0  # seconds between signs of life at least
_FAREWELL = 5.0  # seconds for a goodbye
_PAUSE = 0.05  # seconds before a server that was lost is asked again
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the servers tell together: steps done, the gradient's largest staleness, whether any server dropped it.

    `stopping` says that another worker was told to stop and so is this one, its last gradient unused.
    `chief` is the worker that reports, `others` the number of other workers that are not done: both as server 0 says.
    """

    step: int
    staleness: int
    dropped: bool
    stopping: bool
    chief: int
    others: int


class Servers:
    """Connections to all servers, and the requests that go to all of them at once.

    `repeat` says what becomes of a gradient whose server was lost before it answered: it is sent again (ps-sync, where
    a server counts a worker's gradient of a version once), or it is lost and the worker goes on from the parameters as
    they are then (a server may have applied a part of it already). `over` tells, while a server is not found, whether
    it has ended because the work is done: OverError.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        key: bytes,
        flat: FlatModel,
        worker: int,
        workers: int,
        *,
        repeat: bool,
        start_limit: float,
        wait_limit: float,
        rejoin_limit: float,
        alive: Callable[[], None],
        over: Callable[[], bool],
    ) -> None:
        self._wait_limit, self._rejoin_limit, self._alive, self._repeat = wait_limit, rejoin_limit, alive, repeat
        self._over = over
        self._flat, self._pinged = flat, time.monotonic()
        self.lost_gradients = self._step = 0
        values, gradient, count = flat.values, flat.gradient, len(addresses)
        if flat.elements < count:
            raise TrainError(f"{flat.elements} parameters are too few for {count} parameter servers")
        self._links = []
        for number, address in enumerate(addresses):
            own = part(flat.elements, number, count)
            mine = Greeting(
                digest=flat.digest, elements=flat.elements, worker=worker, workers=workers, server=number, servers=count
            )
            bytes_ = slice(4 * own.start, 4 * own.stop)
            self._links.append(Link(address, key, mine, values[bytes_], gradient[bytes_]))
        end = time.monotonic() + start_limit
        for link in self._links:
            link.connect(end, start_limit, self._await_others)

    @property
    def empty(self) -> bool:
        """Whether a server has no parameters yet."""
        return any(link.empty for link in self._links)

    def give(self, step: int) -> None:
        """Give this worker's parameters, after so many steps, to the servers that have none."""
        self._flat.fetch()
        self._ask(Frame(Kind.GIVE, step=step), [link for link in self._links if link.empty])

    def push(self, step: int, rate: float, samples: int) -> Answer:
        """Send the gradient of a step and receive the parameters."""
        return self._ask(Frame(Kind.PUSH, step=step, rate=rate, samples=samples), self._links)

    def pull(self) -> Answer:
        """Receive the parameters."""
        self._flat.fetch()  # for a server that turns out to have lost everything
        return self._ask(Frame(Kind.PULL, step=self._step), self._links)

    def done(self) -> Answer:
        """Say that this worker has made its last step."""
        return self._ask(Frame(Kind.DONE, step=self._step), self._links)

    def ping(self) -> None:
        """Let the servers know that this worker is alive, once a second at most."""
        if time.monotonic() - self._pinged > _PING:
            self._pinged = time.monotonic()
            for link in self._links:
                with suppress(OSError):  # a connection that is broken is mended when it is needed
                    if link.connection is not None:
                        link.connection.send(Frame(Kind.PING).pack())

    def leave(self) -> None:
        """Say goodbye to all servers that are there."""
        going = [Transfer(link, Frame(Kind.BYE)) for link in self._links]
        while going := [transfer for transfer in going if transfer.wants]:
            exchange(going, _FAREWELL, self._alive)
        for link in self._links:
            link.close()

    def _await_others(self) -> None:
        self._await_server()
        self.ping()

    def _await_server(self) -> None:
        self._alive()
        if self._over():
            raise OverError

    def _ask(self, request: Frame, links: Sequence[Link]) -> Answer:
        """Ask servers at once and return what they say together; one that is lost meanwhile is found again.

        The others go on waiting then: in ps-sync their answer may hang on what another worker sends to the lost one.
        """
        going, end = [Transfer(link, request) for link in links], 0.0
        while any(transfer.wants or transfer.error for transfer in going):
            exchange(going, self._wait_limit, self._alive)
            for number, transfer in enumerate(going):
                if transfer.error is not None:
                    end = end or time.monotonic() + self._rejoin_limit
                    going[number] = self._mend(transfer, end)
        for transfer in going:
            if request.kind in (Kind.PUSH, Kind.PULL, Kind.GIVE) and transfer.answer is not None:
                transfer.link.version, transfer.link.empty = transfer.answer.version, False
        if request.kind in (Kind.PUSH, Kind.PULL):
            self._flat.place()
        found = [transfer.answer for transfer in going if transfer.answer is not None]
        self._step = found[0].step
        return Answer(
            step=found[0].step,
            staleness=max(answer.staleness for answer in found),
            dropped=any(answer.flags & DROPPED for answer in found),
            chief=found[0].chief,
            others=found[0].others,
            stopping=any(answer.flags & STOPPING for answer in found),
        )

    def _mend(self, lost: Transfer, end: float) -> Transfer:
        """Find a lost server again until `end`, and return what it is asked now; raises TrainError."""
        link, request = lost.link, lost.request
        if isinstance(lost.error, RefusedError):
            raise RefusedError(f"parameter server {link.address}: {lost.error}")
        _log.warning("parameter server %s was lost: %s", link.address, lost.error)
        time.sleep(_PAUSE)
        if time.monotonic() > end:
            raise TrainError(f"parameter server {link.address} was lost again and again")
        link.connect(end, self._rejoin_limit, self._await_server)
        _log.info("parameter server %s is back", link.address)
        if link.empty and request.kind != Kind.GIVE:
            given = Transfer(link, Frame(Kind.GIVE, step=request.step))
            exchange([given], self._wait_limit, self._alive)
            if given.answer is None or given.error is not None:
                return Transfer(link, request)  # it will be found broken
            link.version, link.empty = given.answer.version, False
        if request.kind == Kind.PUSH and not self._repeat:
            self.lost_gradients += 1
            _log.warning("the gradient of step %d is lost with it", request.step)
            request = Frame(Kind.PULL, step=request.step)
        return Transfer(link, request)
