"""hpcsynapse: distributed training runs for batch queues, described once, measured and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcsynapse.spec import JobSpec as JobSpec
    from hpcsynapse.submission import submit as submit

# Written down: importlib.metadata costs 40 ms on the command-line path.
__version__ = "0.1.0"
__all__ = ["JobSpec", "__version__", "submit"]

_LAZY = {"JobSpec": "hpcsynapse.spec", "submit": "hpcsynapse.submission"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        module = import_module(_LAZY[name])
        value = globals()[name] = getattr(module, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
