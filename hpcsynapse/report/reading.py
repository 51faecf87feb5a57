"""Who wants to know how far the reading of records is: reports read many runs of many ranks, deep inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Tell a listener, within a `with`, the name of a run and how many of its ranks of how many are read."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(run: str, done: int, of: int) -> None:
    """Tell whoever listens."""
    if listener := _listener.get():
        listener(run, done, of)
