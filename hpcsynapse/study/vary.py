"""What `--vary SECTION.KEY=A,B` and the table [study.vary] say: the values that a study gives to any setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.spec.settings import place_of

_FORM = "SECTION.KEY=A,B"
# What is decided once for all runs of a study.
_ONCE = ("queue.scheduler", "launch.emulate", "train.resume")
_OPEN, _CLOSE, _QUOTES = "[{(", "]})", "\"'"


def parse(texts: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Return the values of every setting that is typed as `section.key=a,b`; raises SpecError as `--set` does."""
    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        path, said = path.strip(), f"--vary {text!r}"
        *_, kind = place_of(path if equals else "", said, _FORM)
        if path in found:
            raise SpecError(f"{said}: {path} is varied twice; give all of its values in one --vary")
        words = split(values)
        if not all(words):
            raise SpecError(f"{said}: {values!r} is not a list of values with commas between them")
        found[path] = tuple(fields.from_text(path, kind, word) for word in words)
    return found


def split(text: str) -> list[str]:
    """Return what stands between commas outside of brackets and quotes; a text wholly in quotes without them."""
    words, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        depth += 0 if quote else (letter in _OPEN) - (letter in _CLOSE)
        if letter == "," and not quote and depth <= 0:
            words.append("")
        else:
            words[-1] += letter
    return [_unquoted(word.strip()) for word in words]


def checked(table: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the values of every setting of a table [study.vary], by path and as their types; raises SpecError."""
    found: dict[str, tuple[Any, ...]] = {}
    for path, values in flat(table):
        said = f"study.vary: {path}"
        *_, kind = place_of(path, said, "section.key = [...]")
        if path in _ONCE:
            raise SpecError(f"{said} is the same for all runs of a study")
        if not isinstance(values, (list, tuple)) or not values:
            raise SpecError(f"{said} = {fields.shown(values)} must be a list of values")
        found[path] = tuple(fields.coerce(path, kind, value) for value in values)
        if len(set(map(repr, found[path]))) != len(values):
            raise SpecError(f"{said} = {fields.shown(list(values))}: give every value once")
    return found


def flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, values) of a table: TOML reads `ps.servers = [1, 2]` as tables in one another."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _unquoted(word: str) -> str:
    quoted = len(word) > 1 and word[0] == word[-1] and word[0] in _QUOTES
    return word[1:-1] if quoted else word
