"""What runs may differ in besides what a report has columns for: the settings that can change speed or result.

They are read from run.toml as it was resolved, with defaults where it says nothing. Names, folders of runs, logs and
limits are no settings in this sense, nor are seeds: runs that differ in nothing else are repeats of one another. Nor
are variables whose names say that they are secrets: reports are passed on.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcsynapse.spec.job import SECTIONS
from hpcsynapse.spec.launch import looks_secret
from hpcsynapse.spec.names import SERVED
from hpcsynapse.table import KEY, TEXT, Column, Columns
from hpcsynapse.writers import value_of

Settings = Mapping[str, str]

# Of these sections everything counts but what is named, as a column of its own tells it, or as it changes nothing.
_BUT = {
    "train": {
        "strategy",
        "engine",
        "model",
        "data",
        "optimizer",
        "batch",
        "seed",
        "resume",
        "keep_checkpoints",
        "record_warmup",
        "tensorboard",
    },
    "launch": {"threads", "start_limit", "wait_limit", "python", "venv", "conda"},
    "ps": {"restarts", "rejoin_limit"},
    "exchange": set[str](),
    "dual": set[str](),
}
_ALONE = {
    "queue": {"partition", "constraint", "hint"},
    "resources": {"gpu_type", "exclusive"},
    "site": {"name", "interface", "network"},
}
# What the strategy's name in the records tells already: local-sgd+every16+fp16, admm+late.
_IN_STRATEGY = {
    "exchange": {"compression", "bucket_mb", "broadcast_every", "average_every", "overlap"},
    "dual": {
        *("method", "exchange", "target_steps", "net1_steps", "net2_steps", "beta"),
        *("int8_targets", "one_batch_late", "train_at", "norm", "copy_start"),
    },
}
_APART = 3  # settings that have columns of their own for people
_SETTING = Column(name="", meaning="a setting in which runs differ", head="", kind=str, unit=TEXT, priority=KEY)
_FIELD = re.compile(r"[a-z]+\.[a-z_0-9]+")  # of a section, which a run has or has not as a whole
_NEXT = re.compile(r", (?=(?:[a-z]+\.[\w.]+|--?[\w.-]+|word \d+)=)")
_NUMBER = re.compile(r"-\.?\d.*")


def settings_of(table: Mapping[str, Any], run: Path, in_strategy: bool = False) -> dict[str, str]:
    """Return what the run.toml of a run says, by name: `section.key`, or the option of a user's own command.

    `in_strategy` says that the name of the strategy is known with its options, which are left out here.
    """
    found: dict[str, str] = {}
    for section in _sections(table):
        given = table.get(section, {})
        known = _IN_STRATEGY.get(section, set()) if in_strategy else set()
        for item in dataclasses.fields(SECTIONS[section]):
            if item.name not in known and _counts(section, item.name):
                _add(found, f"{section}.{item.name}", given.get(item.name, _default(item)))
    found.update(_shares(table))
    found.update(_words([str(word) for word in table.get("command", [])], run))
    return found


def differing(runs: Iterable[Settings]) -> list[str]:
    """Return the names of the settings in which runs differ.

    Sections are of those strategies that have them; a word of a command, or an argument of a model, is given or not.
    """
    known: dict[str, set[str | None]] = {}
    asked = [one for one in runs if one]  # of a bare folder of records nothing is known
    names = dict.fromkeys(name for one in asked for name in one)
    for name in names:
        given = (one.get(name) for one in asked)
        known[name] = {value for value in given if value is not None or not _FIELD.fullmatch(name)}
    return [name for name, values in known.items() if len(values) > 1]


def chosen(settings: Settings, names: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return some of a run's settings, as a key."""
    return tuple((name, settings[name]) for name in names if name in settings)


def told(pairs: Iterable[tuple[str, str]]) -> str:
    """Return settings as a cell of a table: `ps.servers=2, train.lr=0.1`."""
    return ", ".join(f"{name}={value}" for name, value in pairs)


def apart(rows: Iterable[tuple[Hashable, str]]) -> bool:
    """Tell whether rows (place, settings) differ in settings at one place: else these go along with the places."""
    at: dict[Hashable, set[str]] = {}
    for place, settings in rows:
        at.setdefault(place, set()).add(settings)
    return any(len(found) > 1 for found in at.values())


def of_cell(text: str) -> dict[str, str]:
    """Return the settings that a cell of a table tells."""
    pairs = (one.partition("=") for one in re.split(_NEXT, text) if one)
    return {name: value for name, _, value in pairs}


def brief(text: str) -> str:
    """Return a cell for the name of a line in a plot: `servers=2, lr=0.1`."""
    pairs = of_cell(text)
    return told((_head(name, list(pairs)), value) for name, value in pairs.items())


def spread(rows: Sequence[Any], known: Columns) -> tuple[Sequence[Any], Columns]:
    """Return rows and columns with a column for every setting that the column `settings` tells of.

    For people they stand in its place, or stay in it where they are many.
    """
    told_of = [of_cell(value_of(row, "settings")) for row in rows] if "settings" in known else []
    names = list(dict.fromkeys(name for one in told_of for name in one))
    if not names:
        return rows, known
    apart = len(names) <= _APART
    own = {name: dataclasses.replace(_SETTING, name=name, head=_head(name, names), shown=apart) for name in names}
    all_of_them = known["settings"]
    found: dict[str, Column] = {}
    for name, one in known.items():
        found[name] = one
        found |= own if one is all_of_them else {}
    found["settings"] = dataclasses.replace(all_of_them, shown=all_of_them.shown and not apart)
    cells = [
        {**{name: value_of(row, name) for name in known}, **{name: one.get(name, "") for name in names}}
        for row, one in zip(rows, told_of, strict=True)
    ]
    return cells, found


def _head(name: str, names: Sequence[str]) -> str:
    """Return the last part of a setting's name where no other has it."""
    last = name.rpartition(".")[2]
    return name if sum(other.rpartition(".")[2] == last for other in names) > 1 else last


def _sections(table: Mapping[str, Any]) -> list[str]:
    """Return the sections that concern a run: only those of its own strategy, and none of the trainer for a command."""
    if table.get("command"):
        return ["launch", *_ALONE]
    strategy = str(table.get("train", {}).get("strategy", ""))
    own = ["ps"] if strategy in SERVED else ["dual"] if strategy == "admm" else ["exchange"]
    return ["train", *([] if strategy == "single" else own), "launch", *_ALONE]


def _counts(section: str, name: str) -> bool:
    return name in _ALONE[section] if section in _ALONE else name not in _BUT[section]


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


def _add(found: dict[str, str], name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, one in value.items():
            if not (name == "launch.env" and looks_secret(key)):
                _add(found, f"{name}.{key}", one)
    elif isinstance(value, (list, tuple)):
        found[name] = " ".join(map(str, value))
    else:
        found[name] = "default" if value is None else str(value)


def _shares(table: Mapping[str, Any]) -> dict[str, str]:
    """Return what a rank has of a node where that is not what follows from the number of ranks."""
    asked = table.get("resources", {})
    gpus, cpus = asked.get("gpus", 0), asked.get("cpus")
    shared = gpus and asked.get("ranks_per_node", gpus) != gpus
    found = {"resources.gpus": str(gpus) if shared else "none" if not gpus else "one a rank"}
    # The threads of a rank are its cores, and a condition of their own, where nobody said otherwise.
    return found | ({"resources.cpus": str(cpus)} if table.get("launch", {}).get("threads") and cpus else {})


def _words(command: Sequence[str], run: Path) -> dict[str, str]:
    """Return the words of a user's own command: options by their names, the others by their place; no seed, no run."""
    found: dict[str, str] = {}
    words = [word.replace(str(run), "RUN").replace(run.name, "RUN") for word in command]
    place = 0
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            name, value, place = f"word {place + 1}", word, place + 1
        elif "=" in word:
            name, _, value = word.partition("=")
        else:
            name = word
            value = words.pop(0) if words and (not words[0].startswith("-") or _NUMBER.fullmatch(words[0])) else "yes"
        if name.lstrip("-") not in ("seed", "s"):
            found[name] = f"{found[name]} {value}" if name in found else value
    return found
