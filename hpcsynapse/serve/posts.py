"""Requests that do something: their routes, their bodies, and their answers; they are there where it was allowed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hpcsynapse import fields
from hpcsynapse.errors import HpcSynapseError, RunNotFoundError, SpecError
from hpcsynapse.serve import actions
from hpcsynapse.serve.actions import Actions
from hpcsynapse.serve.schema import hints, to_json

MOST_BODY = 1 << 16  # bytes of a request


@dataclass(frozen=True, slots=True)
class Post:
    """A path below `/api/v1/`, and the function that acts; its second parameter is what the body says."""

    path: str
    call: Callable[[Actions, Any], Any]

    @property
    def body(self) -> Any:
        """The dataclass of the body."""
        return hints(self.call)["request"]


POSTS = (
    Post("check", actions.check),
    Post("submit", actions.submit),
    Post("stop", actions.stop),
    Post("cancel", actions.cancel),
    Post("resume", actions.resume),
    Post("remove", actions.remove),
    Post("store-remove", actions.store_remove),
)
UPLOAD = "store-add"


def failure(status: int, message: str) -> Response:
    """Return an answer that says what is wrong."""
    return Response(to_json({"error": message[:4000]}), status, media_type="application/json")


async def body_of(request: Request) -> bytes:
    """Return the body of a request; raises ValueError for one that is too long, having read no more of it."""
    found = b""
    try:
        async for part in request.stream():
            found += part
            if len(found) > MOST_BODY:
                raise ValueError("the request is too long")
    except ClientDisconnect:
        raise ValueError("the request has no end") from None
    return found


async def acted(own: Actions, post: Post, request: Request) -> Response:
    """Return the answer to a request that does something."""
    try:
        table = json.loads(await body_of(request))
        wanted = fields.build(post.body, table, post.path)
    except (ValueError, RecursionError, TypeError) as error:
        return failure(413 if "too long" in str(error) else 400, f"the request cannot be read: {error}")
    except SpecError as error:
        return failure(400, str(error))
    return await run_in_threadpool(_answer, partial(post.call, own, wanted))


async def uploaded(own: Actions, request: Request) -> Response:
    """Put an archive that is sent into the store; `kind`, `name` and `once` stand in the query."""
    query, size = request.query_params, 0
    with actions.upload_file() as file:
        try:
            async for part in request.stream():
                size += len(part)
                if size > actions.MOST_UPLOAD:
                    return failure(
                        413, f"an archive may have {actions.MOST_UPLOAD >> 20} MiB here; use hpcsynapse store add"
                    )
                await run_in_threadpool(file.write, part)
            file.flush()
        except ClientDisconnect:
            return failure(400, "the archive has no end")
        words = [query.get(name, "")[:300] for name in ("kind", "name", "once")]
        return await run_in_threadpool(_answer, partial(_stored, own, words, file.name))


def _stored(own: Actions, words: list[str], path: str) -> Any:
    from pathlib import Path

    return actions.store_add(own, words[0], words[1], words[2], Path(path))


def _answer(call: Callable[[], Any]) -> Response:
    try:
        return Response(to_json(call()), media_type="application/json")
    except RunNotFoundError as error:
        return failure(404, str(error))
    except SpecError as error:
        return failure(400, str(error))
    except (HpcSynapseError, OSError) as error:
        return failure(409, str(error))


def required(kind: Any) -> list[str]:
    """Return the names of a body that must be there."""
    nothing = dataclasses.MISSING
    return [one.name for one in dataclasses.fields(kind) if one.default is nothing and one.default_factory is nothing]
