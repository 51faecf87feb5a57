"""The web application: the files of the page, and the API's table of routes behind one guard."""

from __future__ import annotations

import gzip
import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from hpcsynapse.errors import HpcSynapseError, RunNotFoundError, SpecError
from hpcsynapse.serve.actions import Actions
from hpcsynapse.serve.downloads import response
from hpcsynapse.serve.events import Streams
from hpcsynapse.serve.guard import SESSION, Guard, Keys
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.openapi import document
from hpcsynapse.serve.posts import POSTS, UPLOAD, acted, body_of, failure, uploaded
from hpcsynapse.serve.routes import API, DOWNLOADS, ROUTES, Route
from hpcsynapse.serve.schema import read_parameters, to_json
from hpcsynapse.serve.static_files import static_files

_QUERY = 4096  # characters
_MASK, _LIFE = 0xFFFFFFFFFFFFFFFF, secrets.randbits(32)
_KEPT: dict[tuple[str, ...], bytes] = {}
_MAKING = Lock()


def application(index: RunIndex, keys: Keys) -> Guard:
    """Return the application for the runs of one folder; it acts where the keys have one for that."""
    own = Actions(index) if keys.write_token else None
    routes = [StarletteRoute(SESSION, partial(_session, keys), methods=["POST"])]
    routes += [
        StarletteRoute(f"{API}{route.path}", partial(_answer, index, route), methods=["GET"]) for route in ROUTES
    ]
    routes += [
        StarletteRoute(f"{API}{route.path}", partial(_answer, index, route), methods=["GET"]) for route in DOWNLOADS
    ]
    routes.append(StarletteRoute(f"{API}events", Streams(index).answer, methods=["GET"]))
    routes.append(StarletteRoute(f"{API}openapi.json", partial(_described, own is not None), methods=["GET"]))
    if own is not None:
        routes += [StarletteRoute(f"{API}{post.path}", partial(acted, own, post), methods=["POST"]) for post in POSTS]
        routes.append(StarletteRoute(f"{API}{UPLOAD}", partial(uploaded, own), methods=["POST"]))
    for name, (kind, content) in static_files().items():
        path = "/" if name == "index.html" else f"/{name}"
        routes.append(StarletteRoute(path, partial(_file, kind, content), methods=["GET"]))
    app = Starlette(routes=routes, exception_handlers={404: _nothing_here, 405: _nothing_here, 500: _broken})
    app.router.redirect_slashes = False
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=4)
    return Guard(app, keys)


async def _file(kind: str, content: bytes, request: Request) -> Response:
    return Response(content, media_type=kind, headers={"cache-control": "no-cache"})


async def _described(acts: bool, request: Request) -> Response:
    return Response(to_json(document(acts)), media_type="application/json")


async def _session(keys: Keys, request: Request) -> Response:
    """Exchange the token for a cookie that scripts of the page cannot read."""
    try:
        given = json.loads(await body_of(request))
        cookie = keys.new_session(given["token"]) if isinstance(given.get("token"), str) else None
    except (ValueError, AttributeError, KeyError, RecursionError):
        return failure(400, "give the token as a JSON object")
    if cookie is None:
        return failure(401, "this is not the token of this server; take the address that it printed")
    return Response(b'{"ok":true}', media_type="application/json", headers={"set-cookie": cookie})


async def _answer(index: RunIndex, route: Route, request: Request) -> Response:
    query = request.url.query
    if len(query) > _QUERY:
        return failure(414, "the request is too long")
    try:
        given = parse_qs(query, keep_blank_values=True, max_num_fields=64, errors="strict")
        found = read_parameters(route.call, given)
    except (SpecError, ValueError) as error:
        return failure(400, str(error))
    if "gzip" not in request.headers.get("accept-encoding", ""):
        route = replace(route, tag=None)
    return await run_in_threadpool(_called, index, route, found, request.headers.get("if-none-match", ""))


def _called(index: RunIndex, route: Route, found: dict[str, Any], known: str) -> Response:
    try:
        if route.tag is not None:
            return _kept_answer(index, route, found, known)
        answer = route.call(index, **found)
        if route in DOWNLOADS:
            return response(answer)
        content = to_json(answer)
    except RunNotFoundError as error:
        return failure(404, str(error))
    except SpecError as error:
        return failure(400, str(error))
    except (HpcSynapseError, OSError) as error:
        return failure(409, str(error))
    return _tagged(f'"{hash(content) & _MASK:x}"', known, lambda: content)


def _kept_answer(index: RunIndex, route: Route, found: dict[str, Any], known: str) -> Response:
    """Return an answer that many ask for: it is made, and made smaller, once for every change."""
    tag = f'"{_LIFE:x}-{route.tag(index) if route.tag else ""}"'

    def make() -> bytes:
        key = (str(index.folder), route.path, tag, str(found))
        with _MAKING:
            if key not in _KEPT:
                _KEPT.clear()
                _KEPT[key] = gzip.compress(to_json(route.call(index, **found)), 4, mtime=0)
            return _KEPT[key]

    answer = _tagged(tag, known, make)
    if answer.status_code == 200:
        answer.headers["content-encoding"] = "gzip"
        answer.headers["vary"] = "Accept-Encoding"
    return answer


def _tagged(tag: str, known: str, make: Callable[[], bytes]) -> Response:
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in known:
        return Response(status_code=304, headers=headers)
    return Response(make(), media_type="application/json", headers=headers)


async def _nothing_here(_request: Request, _error: Exception) -> Response:
    return failure(404, "there is nothing here")


async def _broken(_request: Request, error: Exception) -> Response:
    return failure(500, f"a fault of hpcsynapse: {type(error).__name__}")
