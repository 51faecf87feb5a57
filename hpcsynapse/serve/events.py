"""One stream of events for a browser: rows of runs that have changed, each event numbered, so that none is lost.

A browser that connects again says the number of the last event it has seen, and gets what has changed since; where the
server was started anew meanwhile, it is told to begin afresh. What a run's own page shows is asked for by that page
when its row changes, from where it has read to.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.routes import runs
from hpcsynapse.serve.schema import plain

MOST_STREAMS = 64
_TICK = 1.0
_HEARTBEAT = 15.0


@dataclass
class Streams:
    """The streams of a server; `life` tells its numbers from those of an earlier one."""

    index: RunIndex
    life: str = field(default_factory=lambda: secrets.token_hex(4))
    count: int = 0

    async def answer(self, request: Request) -> Response:
        """Return the stream of events from where the browser was, or 503 where there are too many of them."""
        if self.count >= MOST_STREAMS:
            return Response(status_code=503, headers={"retry-after": "10"})
        life, _, number = request.headers.get("last-event-id", "").partition("-")
        given = request.query_params.get("after", "")
        after = int(number) if life == self.life and _is_number(number) else int(given) if _is_number(given) else -1
        if life and life != self.life:
            after = -1
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", "content-encoding": "identity"}
        return StreamingResponse(self._events(request, after), media_type="text/event-stream", headers=headers)

    async def _events(self, request: Request, after: int) -> AsyncIterator[bytes]:
        self.count += 1
        try:
            if after < 0 or after > self.index.changed:
                yield self._event("again", after := 0, {})
            said = time.monotonic()
            while not await request.is_disconnected():
                found = await run_in_threadpool(runs, self.index, after)
                if found.changed != after or found.unread:
                    after = found.changed
                    yield self._event("runs", after, plain(found))
                    said = time.monotonic()
                elif time.monotonic() - said > _HEARTBEAT:
                    yield b": still here\n\n"
                    said = time.monotonic()
                await asyncio.sleep(_TICK)
        finally:
            self.count -= 1

    def _event(self, kind: str, number: int, data: object) -> bytes:
        text = json.dumps(data, separators=(",", ":"))
        return f"id: {self.life}-{number}\nevent: {kind}\nretry: 1000\ndata: {text}\n\n".encode()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16
