"""How a setting is declared once and then read from TOML, the command line and Python alike."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hpcsynapse.errors import SpecError

T = TypeVar("T")
Check = Callable[[str, Any], None]

# Control characters, the line separators that Python and terminals honour, and lone surrogates (undecodable bytes).
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_OPEN_TEXT = re.compile(r"Illegal character '\\n' \(at line (\d+)")  # what tomllib says of a text without its end
_WORD = re.compile(r"[A-Za-z0-9_.@+:%/=,\[\]()&|*!~^#-]+")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_TEXT = 4096
_MAX_SHOWN = 100


def setting(
    default: Any = None,
    help: str = "",
    *,
    check: Check | None = None,
    option: str | None = None,
    choices: Collection[str] = (),
) -> Any:
    """Declare a dataclass field with its help text, validator, option name and allowed values."""
    metadata = {"help": help, "check": check, "option": option, "choices": choices}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def one_line(name: str, value: str) -> None:
    """Refuse control characters, which would end a line in a job file."""
    if match := _CONTROL.search(value):
        raise SpecError(f"{name}: control character {match[0]!r} at position {match.start()} is not allowed")


def printable(name: str, value: str) -> None:
    """Refuse control characters and overlong text."""
    one_line(name, value)
    if len(value) > MAX_TEXT:
        raise SpecError(f"{name}: {len(value)} characters are too many; at most {MAX_TEXT} are accepted")


def word(name: str, value: str) -> None:
    """Accept one word as queue systems use them (partition, account, constraint): no blanks, no quotes."""
    printable(name, value)
    if not _WORD.fullmatch(value) or value.startswith(("-", "#")) or len(value) > 255:
        raise SpecError(f"{name}: {value!r} is not one plain word of letters, digits and _ . @ + : % / = , [ ] & | * -")


def is_run_name(value: str) -> bool:
    """Tell whether a text is safe as a file name, a job name and a URL part everywhere."""
    return _RUN_NAME.fullmatch(value) is not None


def run_name(name: str, value: str) -> None:
    """Accept what is safe as a file name, a job name and a URL part everywhere."""
    if not is_run_name(value):
        raise SpecError(
            f"{name}: {value!r} is not usable as a run's name; "
            "use up to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )


def env_name(name: str, value: str) -> None:
    """Accept the name of an environment variable that a job may set."""
    if not _ENV_NAME.fullmatch(value):
        raise SpecError(f"{name}: {value!r} is not the name of an environment variable")


def at_least(low: float, high: float = float("inf")) -> Check:
    """Return a check that a number lies in [low, high]."""

    def check(name: str, value: float) -> None:
        if not low <= value <= high:  # also refuses nan
            limit = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
            raise SpecError(f"{name} = {shown(value)} must be {limit}")

    return check


def shown(value: Any) -> str:
    """Return a value for a message: as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits, or levels, than Python writes
        return "a value without end"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def why_unreadable(error: Exception) -> str:
    """Return what is wrong with TOML or JSON that Python refuses to read, in words for who wrote it."""
    if isinstance(error, RecursionError):
        return "lists or tables are nested too deeply"
    if match := _OPEN_TEXT.search(str(error)):
        return f"line {match[1]}: is a quote missing? a text ends on its line"
    return "a number has too many digits" if "integer string conversion" in str(error) else str(error)


@cache
def hints(cls: Any) -> dict[str, Any]:
    """Return the evaluated type of every field of a dataclass."""
    return get_type_hints(cls)


@cache
def base_type(annotation: Any) -> Any:
    """Return the type of an annotation without its `| None`."""
    inner = [part for part in get_args(annotation) if part is not type(None)]
    return inner[0] if type(None) in get_args(annotation) else annotation


def nearest(key: str, names: Iterable[str]) -> str:
    """Return ` (did you mean ...?)` when one of the names is close to the key."""
    close = difflib.get_close_matches(key, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def coerce(name: str, annotation: Any, value: Any) -> Any:
    """Return value as the annotated type, or raise SpecError naming the setting, the value and the type wanted."""
    kind = base_type(annotation)
    origin = get_origin(kind) or kind
    if value is None and type(None) in get_args(annotation):
        return None
    if origin is tuple and isinstance(value, (list, tuple)):
        element = get_args(kind)[0]
        return tuple(coerce(f"{name}[{index}]", element, item) for index, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): coerce(f"{name}.{key}", get_args(kind)[1], item) for key, item in value.items()}
    if kind is Any:
        return value
    if origin is UnionType:
        if type(value) in get_args(kind):
            return value
        raise SpecError(f"{name} = {shown(value)} must be {' or '.join(map(_wanted, get_args(kind)))}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000:
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise SpecError(f"{name} = {shown(value)} must be {_wanted(kind)}")


def _wanted(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(kind) or {tuple: "a list", dict: "a table"}.get(get_origin(kind) or kind, str(kind))


def validate(section: str, instance: Any) -> None:
    """Check types, choices, texts and declared limits of a frozen dataclass after construction."""
    annotations = hints(type(instance))  # type: ignore[arg-type]  # classes are hashable
    for item in dataclasses.fields(instance):
        name = f"{section}.{item.name}" if section else item.name
        value, annotation = getattr(instance, item.name), annotations[item.name]
        if type(value) is not base_type(annotation):  # else it is what coerce would make of it
            value = coerce(name, annotation, value)
            object.__setattr__(instance, item.name, value)
        if value is None:
            continue
        for text in _texts(value):
            printable(name, text)
        choices = item.metadata.get("choices")
        if choices and value not in choices:
            raise SpecError(f"{name} = {value!r} is not one of {', '.join(choices)}{nearest(str(value), choices)}")
        if check := item.metadata.get("check"):
            for one in value if isinstance(value, (tuple, dict)) else (value,):
                check(name, one)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _texts(item)


def build(cls: type[T], table: Mapping[str, Any], section: str) -> T:
    """Construct a section from a table, refusing unknown keys with the nearest valid name."""
    if not isinstance(table, Mapping):
        raise SpecError(f"[{section}] must be a table of settings, not {shown(table)}")
    names = [item.name for item in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in table:
        if key not in names:
            raise SpecError(f"unknown setting {section}.{key}{nearest(key, names)}")
    return cls(**table)


def plain(instance: Any) -> dict[str, Any]:
    """Return a section as TOML-ready values; settings that are None are left out."""
    result = {}
    for item in dataclasses.fields(instance):
        value = getattr(instance, item.name)
        if value is not None:
            result[item.name] = list(value) if isinstance(value, tuple) else value
    return result


def from_text(name: str, annotation: Any, text: str) -> Any:
    """Return the value of a setting typed as text (`--set`): TOML syntax, or the bare text for text settings."""
    if base_type(annotation) is str:
        return text
    try:
        return coerce(name, annotation, tomllib.loads(f"value = {text}")["value"])
    except (ValueError, RecursionError):
        if annotation is Any:
            return text
        raise SpecError(
            f"{name} = {shown(text)} must be {_wanted(base_type(annotation))}, written as in TOML"
        ) from None
