"""The API as an OpenAPI 3.1 document, made from the table of routes and the types of its functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_origin

from hpcsynapse import __version__
from hpcsynapse.serve.routes import API, DOWNLOADS, ROUTES, Route
from hpcsynapse.serve.schema import MAX_TEXT, Schema, hints, parameters_of, schema_of

_ERROR: Schema = {
    "type": "object",
    "description": "What is wrong, in a sentence.",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}
_REFUSED = {"400": "a parameter is wrong", "404": "there is no such run, log or file", "409": "it cannot be told now"}


def document() -> dict[str, Any]:
    """Return the document."""
    known: dict[str, Schema] = {"Error": _ERROR}
    paths = {f"{API}{route.path}": {"get": _answered(route, known)} for route in ROUTES}
    for route in DOWNLOADS:
        paths[f"{API}{route.path}"] = {"get": _downloaded(route, known)}
    paths[f"{API}events"] = {"get": _stream()}
    paths[f"{API}openapi.json"] = {
        "get": _operation("openapi.json", "The description of the API.", _json({"type": "object"}))
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "hpcsynapse", "version": __version__, "description": "The runs of one folder."},
        "paths": paths,
        "components": {"schemas": known, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
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
