"""The API as an OpenAPI 3.1 document, made from the table of routes and the types of its functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_origin

from hpcsynapse import __version__
from hpcsynapse.serve.actions import Done
from hpcsynapse.serve.posts import POSTS, UPLOAD, Post, required
from hpcsynapse.serve.routes import API, DOWNLOADS, ROUTES, Route
from hpcsynapse.serve.schema import MAX_TEXT, Schema, hints, parameters_of, schema_of

_ERROR: Schema = {
    "type": "object",
    "description": "What is wrong, in a sentence.",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}
_BOTH: list[dict[str, list[str]]] = [{"token": [], "write": []}]
_REFUSED = {"400": "a parameter is wrong", "404": "there is no such run, log or file", "409": "it cannot be told now"}


def document(acts: bool = False) -> dict[str, Any]:
    """Return the document; of a server that `acts` with what can be done."""
    known: dict[str, Schema] = {"Error": _ERROR}
    paths = {f"{API}{route.path}": {"get": _answered(route, known)} for route in ROUTES}
    for route in DOWNLOADS:
        paths[f"{API}{route.path}"] = {"get": _downloaded(route, known)}
    paths[f"{API}events"] = {"get": _stream()}
    paths[f"{API}openapi.json"] = {
        "get": _operation("openapi.json", "The description of the API.", _json({"type": "object"}))
    }
    if acts:
        paths |= {f"{API}{post.path}": {"post": _act(post, known)} for post in POSTS}
        paths[f"{API}{UPLOAD}"] = {"post": _upload(known)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "hpcsynapse", "version": __version__, "description": "The runs of one folder."},
        "paths": paths,
        "components": {
            "schemas": known,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "write": {"type": "apiKey", "in": "header", "name": "X-HPCSynapse-Token"},
            },
        },
        "security": [{"token": []}],
    }


def _operation(path: str, summary: str, content: Schema, call: Callable[..., Any] | None = None) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "the answer", "content": content}}
    answers["401"] = {"description": "the token is missing or wrong"}
    answers["304"] = {"description": "unchanged since the answer of that ETag"}
    for status, text in _REFUSED.items() if call else ():
        answers[status] = {"description": text, "content": _json({"$ref": "#/components/schemas/Error"})}
    return {"operationId": path, "summary": summary, "responses": answers}


def _answered(route: Route, known: dict[str, Schema]) -> dict[str, Any]:
    answer = schema_of(hints(route.call)["return"], known)
    found = _operation(route.path, route.summary, _json(answer), route.call)
    return {**found, "parameters": _parameters(route.call, known)}


def _downloaded(route: Route, known: dict[str, Schema]) -> dict[str, Any]:
    binary = {"*/*": {"schema": {"type": "string", "contentEncoding": "binary"}}}
    found = _operation(route.path, route.summary, binary, route.call)
    return {**found, "parameters": _parameters(route.call, known)}


def _act(post: Post, known: dict[str, Schema]) -> dict[str, Any]:
    answer = schema_of(hints(post.call)["return"], known)
    summary = (post.call.__doc__ or "").partition("\n")[0]
    body = schema_of(post.body, known)
    known[post.body.__name__]["required"] = required(post.body)
    found = _operation(post.path, summary, _json(answer), post.call)
    return {**found, "requestBody": {"required": True, "content": _json(body)}, "security": _BOTH}


def _upload(known: dict[str, Schema]) -> dict[str, Any]:
    found = _operation(UPLOAD, "Put a zip archive into the store.", _json(schema_of(Done, known)), _upload)
    text = {"type": "string", "maxLength": MAX_TEXT}
    names = [{"name": name, "in": "query", "required": True, "schema": text} for name in ("kind", "name", "once")]
    content = {"application/zip": {"schema": {"type": "string", "contentEncoding": "binary"}}}
    return {**found, "parameters": names, "requestBody": {"required": True, "content": content}, "security": _BOTH}


def _parameters(call: Callable[..., Any], known: dict[str, Schema]) -> list[Schema]:
    found = []
    for name, (kind, default) in parameters_of(call).items():
        schema = schema_of(kind, known)
        if "anyOf" in schema:  # a parameter that is left out is null
            schema = schema["anyOf"][0]
        inner = schema["items"] if get_origin(kind) is list else schema
        if inner.get("type") == "string" and "enum" not in inner:
            inner["maxLength"] = MAX_TEXT
        required = default is inspect.Parameter.empty
        found.append({"name": name, "in": "query", "required": required, "schema": schema})
    return found


def _stream() -> dict[str, Any]:
    schema = {"text/event-stream": {"schema": {"type": "string"}}}
    return _operation("events", "Rows of runs that have changed, as server-sent events.", schema)


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
