"""How sbatch finds options on a line: long ones that may be abbreviated, short ones that may share a dash.

Source: sbatch(1); getopt_long(3), by which sbatch reads them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from hpcsynapse.jobfiles.slurm import PLUGINS, RULES

_OWN = tuple(name for name in RULES if name not in PLUGINS)
# Long names that take no value.
FLAGS = frozenset({
    "requeue", "no-requeue", "overcommit", "oversubscribe", "contiguous", "parsable", "test-only", "verbose", "quiet",
    "hold", "spread-job", "use-min-nodes", "wait", "ignore-pbs", "reboot", "stepmgr", "container-remap-root",
    "no-container-remap-root", "container-mount-home", "no-container-mount-home", "container-entrypoint",
    "no-container-entrypoint", "container-entrypoint-log", "container-writable", "container-readonly",
})  # fmt: skip  # a table
SHORT = {
    "J": "job-name", "N": "nodes", "n": "ntasks", "c": "cpus-per-task", "t": "time", "p": "partition", "A": "account",
    "q": "qos", "C": "constraint", "o": "output", "e": "error", "i": "input", "D": "chdir", "d": "dependency",
    "a": "array", "G": "gpus", "w": "nodelist", "x": "exclude", "L": "licenses", "k": "no-kill", "H": "hold",
    "s": "oversubscribe", "O": "overcommit", "W": "wait", "m": "distribution", "F": "nodefile", "B": "extra-node-info",
    "S": "core-spec", "b": "begin", "M": "clusters", "Q": "quiet", "v": "verbose",
}  # fmt: skip  # a table
# Options whose value may be left out.
OPTIONAL = frozenset({"exclusive", "no-kill", "nice", "propagate", "get-user-env", "kill-on-invalid-dep", "x11"})
# Values that are texts, in which a dollar is no attempt to have a variable expanded.
_TEXTS = frozenset({"comment", "wrap", "job-name"})
_PATHS = frozenset({"output", "error", "input", "chdir"})


@dataclass(frozen=True, slots=True)
class Option:
    """One option with its full name; `level` and `message` say what is wrong, with level error it has no meaning."""

    name: str
    value: str
    level: str = ""
    message: str = ""


def options(words: list[str]) -> Iterator[Option]:
    """Yield the options on one line; several may share it."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            yield _long(word, rest)
        elif word.startswith("-") and len(word) > 1:
            yield _short(word, rest)
        else:
            yield Option("", word, "error", _no_option(word))


def _long(word: str, rest: list[str]) -> Option:
    written, given, value = word[2:].partition("=")
    name, wrong = _full_name(written)
    if name not in RULES:
        return Option(written, value or _next_value(rest, given), *wrong)
    if given and not value and name in ("gres", "partition"):
        return Option(name, "", "error", "has no value")
    if given or name in FLAGS or name in OPTIONAL:
        return _judged(name, value)
    if not rest or rest[0].startswith("-"):
        return Option(name, "", "error", "has no value")
    return _judged(name, rest.pop(0))


def _next_value(rest: list[str], given: str) -> str:
    return rest.pop(0) if not given and rest and not rest[0].startswith("-") else ""


def _full_name(written: str) -> tuple[str, tuple[str, str]]:
    """Return the option that a name stands for, else what is wrong with it: (level, message)."""
    if written in RULES:
        return written, ("", "")
    candidates = [name for name in _OWN if name.startswith(written)] if written else []
    if len(candidates) == 1:
        return candidates[0], ("", "")
    if candidates:
        more = " and more" if candidates[3:] else ""
        return "", ("error", f"could be {', '.join(candidates[:3])}{more}; write it out")
    if close := get_close_matches(written, _OWN, n=1, cutoff=0.75):
        return "", ("error", f"sbatch has no such option; did you mean {close[0]!r}?")
    return "", ("warning", "is no option of sbatch itself; a plugin (SPANK) of the site may know it")


def _short(word: str, rest: list[str]) -> Option:
    """Return the first option of a word with one dash; flags leave what is behind them for the next."""
    name, value = SHORT.get(word[1], word[1]), word[2:]
    if name not in RULES:
        return Option(name, value, "error", "sbatch has no such option")
    if name in FLAGS:
        if value:
            rest.insert(0, f"-{value}")
        return Option(name, "")
    if value.startswith("="):
        return Option(name, value, "error", f"sbatch takes the = for a part of the value; write -{word[1]} {value[1:]}")
    if value or name in OPTIONAL:
        return _judged(name, value)
    if not rest or rest[0].startswith("-"):
        return Option(name, "", "error", "has no value")
    return _judged(name, rest.pop(0))


def _judged(name: str, value: str) -> Option:
    """Return an option with a remark on what sbatch does not expand."""
    if "$" in value and name not in _TEXTS:
        return Option(name, value, "warning", f"sbatch expands no variables: {value} is taken as it stands")
    if name in _PATHS and value.startswith("~"):
        return Option(name, value, "warning", f"sbatch does not expand ~: {value} is taken as it stands")
    return Option(name, value)


def _no_option(word: str) -> str:
    if unicodedata.category(word[0]) in ("Pd", "Sm") and word[0] != "-":
        return f"begins with {_described(word[0])} in place of the minus sign of an option"
    if word[0].isspace():
        return f"begins with {_described(word[0])}, which sbatch does not take for a blank"
    return "is not an option: a value with blanks needs quotes"


def _described(character: str) -> str:
    return f"{unicodedata.name(character, 'a character').lower()} (U+{ord(character):04X})"
