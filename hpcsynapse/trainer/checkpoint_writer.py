"""Writing a checkpoint beside the steps: from a copy of the state, by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch

Layout = tuple[Any, ...]


class Snapshot:
    """A copy of a run's state in host memory, which is kept: new memory for every copy would take most of the time."""

    def __init__(self) -> None:
        self._kept: list[torch.Tensor] = []
        self._taken: list[torch.Tensor] = []
        self._known: dict[Layout, torch.Tensor] = {}

    def take(self, content: Any) -> Any:
        """Return a nested content with its tensors copied: what becomes of the originals does not matter.

        It is valid until the next is taken. Tensors that are the same memory, as tied weights are, stay so.
        """
        self._known, self._taken = {}, []
        try:
            return self._copied(content)
        finally:
            self._kept, self._known = self._taken, {}

    def _copied(self, content: Any) -> Any:
        if isinstance(content, torch.Tensor):
            layout = (content.data_ptr(), content.dtype, tuple(content.shape), content.stride(), content.device)
            if layout not in self._known or not content.numel():
                self._known[layout] = self._copy_of(content.detach())
            return self._known[layout]
        if isinstance(content, Mapping):
            return {key: self._copied(value) for key, value in content.items()}
        if type(content) in (list, tuple):
            return type(content)(self._copied(value) for value in content)
        return content

    def _copy_of(self, tensor: torch.Tensor) -> torch.Tensor:
        number = len(self._taken)
        kept = self._kept[number] if number < len(self._kept) else None
        fits = kept is not None and (kept.shape, kept.dtype, kept.stride()) == (
            tensor.shape,
            tensor.dtype,
            tensor.stride(),
        )
        copy = kept.copy_(tensor) if kept is not None and fits else tensor.to("cpu", copy=True)
        self._taken.append(copy)
        return copy


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
