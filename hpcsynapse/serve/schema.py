"""Types as JSON schemas, parameters of a request as values of their types, and answers as JSON: one reading of each."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hpcsynapse.errors import SpecError

MAX_TEXT = 300  # characters of a parameter
Schema = dict[str, Any]
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The least and the largest value of a number that is asked for."""

    least: int
    most: int


@cache
def hints(owner: Any) -> dict[str, Any]:
    """Return the types of a function's parameters and answer, or of a dataclass's fields, with their annotations."""
    return get_type_hints(owner, include_extras=True)


def schema_of(kind: Any, known: dict[str, Schema]) -> Schema:
    """Return the schema of a type; those of its dataclasses are put among the `known` ones, by name."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind is Any:
        return {}
    if kind is NoneType:
        return {"type": "null"}
    if origin is Annotated:
        limits = [one for one in inner[1:] if isinstance(one, Limits)]
        bounds = {"minimum": limits[0].least, "maximum": limits[0].most} if limits else {}
        return {**schema_of(inner[0], known), **bounds}
    if origin is Literal:
        return {"type": "string", "enum": list(inner)}
    if origin in (UnionType, Union):
        return {"anyOf": [schema_of(one, known) for one in inner]}
    if origin is list:
        return {"type": "array", "items": schema_of(inner[0], known)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(inner[1], known)}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"type": "string", "enum": [str(one) for one in kind]}
    if dataclasses.is_dataclass(kind):
        return _reference(kind, known)
    raise TypeError(f"there is no schema of {kind}")


def _reference(kind: Any, known: dict[str, Schema]) -> Schema:
    name = kind.__name__
    if name not in known:
        known[name] = {}
        types = hints(kind)
        properties = {item.name: schema_of(types[item.name], known) for item in dataclasses.fields(kind)}
        known[name].update(
            type="object",
            description=inspect.cleandoc(kind.__doc__ or ""),
            properties=properties,
            required=list(properties),
            additionalProperties=False,
        )
    return {"$ref": f"#/components/schemas/{name}"}


def parameters_of(call: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return type and default of every parameter that a request gives; the first is the server's own."""
    types = hints(call)
    names = list(inspect.signature(call).parameters.values())[1:]
    return {one.name: (types[one.name], one.default) for one in names}


def read_parameters(call: Callable[..., Any], given: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the parameters of a request as values; raises SpecError naming the first that is wrong."""
    wanted = parameters_of(call)
    if unknown := [name for name in given if name not in wanted]:
        raise SpecError(f"unknown parameter {unknown[0][:50]!r}; known are {', '.join(wanted) or 'none'}")
    found = {}
    for name, (kind, default) in wanted.items():
        texts = given.get(name, [])
        if get_origin(kind) is list:
            found[name] = [_value(name, get_args(kind)[0], text) for text in texts]
        elif len(texts) > 1:
            raise SpecError(f"parameter {name} is given more than once")
        elif texts:
            found[name] = _value(name, kind, texts[0])
        elif default is inspect.Parameter.empty:
            raise SpecError(f"parameter {name} is missing")
    return found


def _value(name: str, kind: Any, text: str) -> Any:
    if len(text) > MAX_TEXT:
        raise SpecError(f"parameter {name} has more than {MAX_TEXT} characters")
    if get_origin(kind) in (UnionType, Union):
        kind = get_args(kind)[0]
    if get_origin(kind) is Annotated:
        base, limits = get_args(kind)[:2]
        if not (text.isascii() and text.isdigit()) or len(text) > 18 or not limits.least <= int(text) <= limits.most:
            raise SpecError(f"parameter {name} must be a whole number from {limits.least} to {limits.most}")
        return base(text)
    if get_origin(kind) is Literal and text not in get_args(kind):
        raise SpecError(f"parameter {name} must be one of {', '.join(get_args(kind))}")
    return text


def to_json(answer: Any) -> bytes:
    """Return an answer as JSON: null for numbers that JSON does not have, text escaped to ASCII."""
    return json.dumps(plain(answer), separators=(",", ":")).encode()


def plain(answer: Any) -> Any:
    """Return an answer as dictionaries, lists, texts and finite numbers."""
    if isinstance(answer, float):
        return float(answer) if math.isfinite(answer) else None
    if answer is None or isinstance(answer, (bool, int)):
        return answer
    if isinstance(answer, str):
        return str(answer)
    if dataclasses.is_dataclass(answer):
        return {item.name: plain(getattr(answer, item.name)) for item in dataclasses.fields(answer)}
    if isinstance(answer, Mapping):
        return {str(key): plain(value) for key, value in answer.items()}
    return [plain(value) for value in answer]
