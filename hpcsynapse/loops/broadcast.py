"""Parameters of rank 0 for all ranks, every so many steps, in a loop of one's own (brain imaging source, 2019)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from hpcsynapse.files import append_json
from hpcsynapse.loops.ranks import Ranks, ranks_of_program
from hpcsynapse.runs.directory import RunDirectory

_SHARDED = ("FullyShardedDataParallel", "FSDPModule")


class BroadcastEvery:
    """Broadcasts a model's parameters and buffers from rank 0 every so many steps; `step()` follows the optimizer's.

    `every` counts calls of `step()`; 0 leaves it to `epoch()`, at the end of every epoch. `optimizer` adds that
    optimizer's state. What ranks had drifted apart by is measured before each broadcast: the largest distance of a
    rank's parameters from those of rank 0, divided by the norm of those; it is returned, kept in `drift`, and written
    for the report. Afterwards all ranks have the same bits. Ranks are those of torch.distributed (DDP too), Horovod or
    mpi4py, as the program has brought them together; alone, nothing is exchanged and the drift is 0.
    """

    def __init__(self, model: Any, every: int = 0, optimizer: Any = None) -> None:
        if every < 0:
            raise ValueError(f"BroadcastEvery: every = {every} is below 0, which stands for the end of every epoch")
        if any(kind.__name__ in _SHARDED for part in model.modules() for kind in type(part).__mro__):
            raise ValueError("BroadcastEvery: every rank has another part of this model's parameters (FSDP)")
        self._model, self._every, self._optimizer = model, every, optimizer
        self._ranks: Ranks | None = None
        self._torch = import_module("torch")
        self.steps = 0
        self.drift = 0.0

    def step(self) -> float | None:
        """Count a step of all ranks; return the drift where a broadcast followed it, else None."""
        self.steps += 1
        return self.broadcast() if self._every and not self.steps % self._every else None

    def epoch(self) -> float | None:
        """Broadcast at the end of an epoch where `every` is 0; return the drift, else None."""
        return None if self._every else self.broadcast()

    def broadcast(self) -> float:
        """Broadcast now, on all ranks; return what they had drifted apart by."""
        if self._ranks is None:
            self._ranks = ranks_of_program()
        with self._torch.no_grad():
            own = self._replace(self._model.parameters())
            self._replace([*self._model.buffers(), *self._state()])
        (self.drift,) = self._ranks.largest([own])
        if self._ranks.rank == 0:
            self._record(self.drift)
        return self.drift

    def _replace(self, tensors: Any) -> float:
        """Take rank 0's tensors; return the distance from them, over their norm, one tensor at a time."""
        distance = norm = 0.0
        for tensor in tensors:
            received = tensor.detach().clone(memory_format=self._torch.contiguous_format)
            self._ranks.broadcast(received)  # type: ignore[union-attr]  # set before
            if tensor.is_floating_point():
                distance += float((tensor.detach() - received).double().square().sum())
                norm += float(received.double().square().sum())
            tensor.detach().copy_(received)
        return (distance / norm) ** 0.5 if norm else float(distance > 0)

    def _state(self) -> Iterator[Any]:
        """Yield the tensors of the optimizer's state, in the same order on all ranks."""
        for group in self._optimizer.param_groups if self._optimizer is not None else ():
            for parameter in group["params"]:
                for _, value in sorted(self._optimizer.state.get(parameter, {}).items()):
                    if self._torch.is_tensor(value):
                        yield value

    def _record(self, drift: float) -> None:
        folder = os.environ.get("HPCSYNAPSE_RUN_DIR")
        if folder:
            with suppress(OSError):
                append_json(RunDirectory(Path(folder)).drift, {"time": time.time(), "step": self.steps, "drift": drift})
