"""Scaling reports: reading step records, comparing points, intervals, tables.

For notebooks, as pandas DataFrames: `load`, `steps`, `learning_curves` and `compare`; see docs/analysis.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcsynapse.report.frames import compare as compare
    from hpcsynapse.report.frames import learning_curves as learning_curves
    from hpcsynapse.report.frames import load as load
    from hpcsynapse.report.frames import steps as steps

# No module of this package may have one of these names: importing it would take the place of the function.
__all__ = ["compare", "learning_curves", "load", "steps"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        value = globals()[name] = getattr(import_module("hpcsynapse.report.frames"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
