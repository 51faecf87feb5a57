"""Running the server: it ends by itself when nobody has used it for long, or when it has used up its processor time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from hpcsynapse.serve.guard import Guard

_LOOK_SECONDS = 5.0
_IDLE_LOOK = 60.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a server ends by itself: seconds unused, and processor seconds used (None: no limit)."""

    idle_s: float
    cpu_s: float | None


def run(guard: Guard, listening: socket.socket, bounds: Bounds, say: Callable[[str], None]) -> None:
    """Answer requests until the process is told to end, or a bound is reached, which is said."""
    config = uvicorn.Config(
        guard,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        access_log=False,
        log_level="critical",
        server_header=False,
        proxy_headers=False,
        backlog=256,
        limit_concurrency=512,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        watching = asyncio.create_task(_watch(server, guard, bounds, say))
        try:
            await server.serve(sockets=[listening])
        finally:
            watching.cancel()

    asyncio.run(serve())


async def _watch(server: uvicorn.Server, guard: Guard, bounds: Bounds, say: Callable[[str], None]) -> None:
    while not server.should_exit:
        idle = time.monotonic() - guard.used
        if reason := over(idle, time.process_time(), bounds):
            say(reason)
            server.should_exit = True
        left = bounds.idle_s - idle
        await asyncio.sleep(max(0.05, min(left, _IDLE_LOOK if idle > _IDLE_LOOK else _LOOK_SECONDS)))


def over(idle_s: float, cpu_s: float, bounds: Bounds) -> str:
    """Return why a server has to end now; empty while it need not."""
    if idle_s >= bounds.idle_s:
        return f"not used for {bounds.idle_s / 3600:.3g} hours: the server ends"
    if bounds.cpu_s is not None and cpu_s >= bounds.cpu_s:
        return f"its {bounds.cpu_s:.0f} seconds of processor time are used up: the server ends"
    return ""
