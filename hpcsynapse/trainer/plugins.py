"""How the trainer's tables of names are turned into classes, and how a user's `package.module:attribute` is found."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hpcsynapse.errors import TrainError
from hpcsynapse.fields import nearest


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table: where the class lies, what it is, and the extra that installs what it needs."""

    module: str
    attribute: str
    summary: str
    extra: str = "train"


def select(kind: str, table: Mapping[str, Entry], name: str) -> Any:
    """Return the class or function behind a name of a table.

    Raises TrainError for an unknown name (with the nearest one) and for a dependency that is missing (with the
    extra that brings it).
    """
    if name not in table:
        raise TrainError(f"{kind} {name!r} is not known{nearest(name, table)}; known are {', '.join(table)}")
    entry = table[name]
    try:
        return getattr(importlib.import_module(entry.module), entry.attribute)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "hpcsynapse":
            raise
        raise TrainError(
            f"{kind} {name!r} needs the package {error.name!r}, which is not installed; "
            f"pip install 'hpcsynapse[{entry.extra}]'"
        ) from None


def load_target(kind: str, target: str) -> Any:
    """Return the object that `package.module:attribute` names; raises TrainError saying what was not found."""
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, but something that it imports is not
        raise TrainError(
            f"{kind} {target!r}: no module {error.name!r} in the working folder, in PYTHONPATH or installed"
        ) from None
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise TrainError(f"{kind} {target!r}: {module.__file__} defines no {attribute!r}") from None


def check_arguments(what: str, function: Callable[..., Any], *args: Any, **more: Any) -> None:
    """Raise TrainError, beginning with `what`, when a function cannot be called so; it is not called."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # a callable without a signature
        return
    try:
        signature.bind(*args, **more)
    except TypeError as error:
        raise TrainError(f"{what} do not fit {signature}: {error}") from None
