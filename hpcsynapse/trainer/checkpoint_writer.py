"""Writing a checkpoint beside the steps: from a copy of the state, by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch

Layout = tuple[Any, ...]


def copied(content: Any) -> Any:
    """Return a nested content with its tensors copied to host memory: what becomes of the originals does not matter.

    Tensors that are the same memory, as tied weights are, stay so.
    """
    return _copied(content, {})


def _copied(content: Any, known: dict[Layout, torch.Tensor]) -> Any:
    if isinstance(content, torch.Tensor):
        layout = (content.data_ptr(), content.dtype, tuple(content.shape), content.stride(), content.device)
        if layout not in known or not content.numel():
            known[layout] = content.detach().to("cpu", copy=True)
        return known[layout]
    if isinstance(content, Mapping):
        return {key: _copied(value, known) for key, value in content.items()}
    if isinstance(content, list | tuple) and type(content) in (list, tuple):
        return type(content)(_copied(value, known) for value in content)
    return content


class Writer:
    """Does one piece of work at a time in a thread; what goes wrong in it is raised where somebody asks."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin a piece of work, after the one before has ended; raises what went wrong in that."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - it is raised by `check`
            self._error = error

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Return when nothing is being done; raises what went wrong."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what went wrong, once."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
