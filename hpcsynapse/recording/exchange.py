"""What is watched of the exchange between ranks: DDP's and Horovod's, and averages that a program makes itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .guard import Guard
from .steps import Steps


class Exchange:
    """Tells the steps when gradients are ready and when the program waits for other ranks; knows by what it exchanges.

    DDP exchanges within the backward pass: what that takes after the last gradient of this rank is ready is the wait
    for the exchange. Which gradient is the last is learned in the first pass.
    """

    def __init__(self, steps: Steps, guard: Guard) -> None:
        self._steps, self._guard = steps, guard
        self.engine = ""
        self.bytes = 0  # of all gradients that are exchanged

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Return what is to be called when a module has been imported, by its name."""
        found: dict[str, Callable[[Any], None]] = {
            "torch.nn.parallel.distributed": self.ddp,
            "torch.distributed.distributed_c10d": self.collectives,
            "torch.distributed.fsdp.fully_sharded_data_parallel": functools.partial(
                self.named, "FullyShardedDataParallel", "fsdp"
            ),
            "deepspeed.runtime.engine": functools.partial(self.named, "DeepSpeedEngine", "deepspeed"),
            "horovod.torch.optimizer": self.horovod,
        }
        return {name: functools.partial(self._guard.call, hook) for name, hook in found.items()}

    def named(self, kind: str, engine: str, module: Any) -> None:
        """Watch for the first object of a class that exchanges where it cannot be seen from here."""
        self._after_init(getattr(module, kind), lambda _made: setattr(self, "engine", engine))

    def ddp(self, module: Any) -> None:
        """Watch DistributedDataParallel."""
        self._after_init(module.DistributedDataParallel, self._follow_gradients)

    def _after_init(self, kind: Any, then: Callable[[Any], None]) -> None:
        guard, make = self._guard, kind.__init__

        @functools.wraps(make)
        def watched(made: Any, *arguments: Any, **named: Any) -> None:
            make(made, *arguments, **named)
            if guard.here:
                guard.call(then, made)

        kind.__init__ = watched

    def _follow_gradients(self, model: Any) -> None:
        self.engine = "ddp"
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.bytes += sum(parameter.numel() * parameter.element_size() for parameter in trained)
        handles: dict[int, Any] = {}
        order: list[int] = []

        def ready(number: int, _gradient: Any) -> None:
            if not self._steps.in_backward:
                return
            if len(handles) > 1:
                if order and number in order:  # the second pass: the last of the first is known
                    last = order[-1]
                    for other in [other for other in handles if other != last]:
                        handles.pop(other).remove()
                else:
                    order.append(number)
            self._guard.call(self._steps.gradient)

        for number, parameter in enumerate(trained):
            hook = functools.partial(ready, number)
            hook.__torch_unserializable__ = True  # type: ignore[attr-defined]  # saving a parameter need not warn
            handles[number] = parameter.register_hook(hook)

    def horovod(self, module: Any) -> None:
        """Watch the wait of Horovod's optimizer for its exchanges."""
        kind = module._DistributedOptimizer
        kind.synchronize = self._waiting(kind.synchronize, "horovod")

    def collectives(self, module: Any) -> None:
        """Watch all_reduce, by which programs average gradients themselves."""
        module.all_reduce = self._waiting(module.all_reduce, "torch.distributed")

    def _waiting(self, function: Callable[..., Any], engine: str) -> Callable[..., Any]:
        guard, steps = self._guard, self._steps

        @functools.wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            if not guard.here:
                return function(*arguments, **named)
            self.engine = self.engine or engine
            guard.call(steps.exchange_begins)
            try:
                return function(*arguments, **named)
            finally:
                guard.call(steps.exchange_ends)

        return watched
