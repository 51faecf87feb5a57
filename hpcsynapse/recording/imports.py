"""Waits for modules to be imported, and then calls a function with each, once."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Callback = Callable[[Any], None]


class Waiting:
    """A finder of modules that finds nothing itself: it lets the others find, and looks at what was loaded.

    `callbacks` has a function for every full name of a module; those that are loaded already are told at once.
    """

    def __init__(self, callbacks: dict[str, Callback]) -> None:
        self._callbacks = dict(callbacks)

    def install(self) -> None:
        """Begin to wait."""
        for name in [name for name in self._callbacks if name in sys.modules]:
            self._callbacks.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return what the other finders find, prepared so that the callback follows the module's own code."""
        if name not in self._callbacks:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None:
                self._prepare(name, spec.loader)
                return spec  # type: ignore[no-any-return]
        return None

    def _prepare(self, name: str, loader: Any) -> None:
        original = loader.exec_module

        def exec_module(module: Any) -> None:
            try:
                del loader.exec_module
            except AttributeError:
                pass
            original(module)
            callback = self._callbacks.pop(name, None)
            if callback is not None:
                callback(module)

        try:
            loader.exec_module = exec_module
        except AttributeError:  # a loader that takes no attributes: this module is passed over
            pass
