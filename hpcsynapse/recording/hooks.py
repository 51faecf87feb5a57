"""What is watched in torch: the loader's batches, backward passes, optimizers' updates, evaluation and saving.

Every function here wraps one of torch's own, calls it once with what it was given and returns what it returned. Nothing
is added to objects that a program may save or copy. What every step passes through calls as little as can be
(benchmarks/recording.py): there a fault is caught on the spot, not by `Guard.call`.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from threading import get_ident
from typing import Any

from .batches import Loader
from .guard import Guard
from .modules import Modules
from .steps import NAN, Steps

_SHARES = ("DivBackward0", "MulBackward0")  # how a loss is made a share of the step's in gradient accumulation


class Hooks:
    """Connects torch's modules, as they are imported, to the steps; `on_update(optimizer)` comes before an update."""

    def __init__(self, steps: Steps, guard: Guard, on_update: Callable[[Any], None]) -> None:
        self._steps, self._guard, self._on_update = steps, guard, on_update
        self._unscaled: tuple[float, bool] | None = None
        self._enabled: Callable[[], bool] | None = None
        self._modules = Modules(steps, guard, self._training)
        self._newest: Any = None

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Return what is to be called when a module of torch has been imported, by its name."""
        found = {
            "torch.optim.optimizer": self.optimizer,
            "torch.utils.data.dataloader": self.dataloader,
            "torch.autograd": self.autograd,
            "torch.serialization": self.serialization,
            "torch.nn.modules.module": self._modules.watch,
            "torch.amp.grad_scaler": self.grad_scaler,
            "torch.cuda.amp.grad_scaler": self.grad_scaler,
        }
        return {name: functools.partial(self._guard.call, hook) for name, hook in found.items()}

    def _training(self) -> bool:
        """Whether gradients are recorded: what is done without them trains nothing."""
        if self._enabled is None:
            self._enabled = getattr(sys.modules.get("torch"), "is_grad_enabled", None)
        return self._enabled is None or self._enabled()

    # Loaders

    def dataloader(self, module: Any) -> None:
        """Watch DataLoader: every iteration, and every batch of it."""
        guard, steps, hooks, give = self._guard, self._steps, self, Loader.give
        iterate, following = module.DataLoader.__iter__, module._BaseDataLoaderIter.__next__
        loaders: Any = weakref.WeakKeyDictionary()

        def begin(loader: Any, iterator: Any) -> None:
            known = loaders.get(loader)
            if known is None:
                known = loaders[loader] = Loader(loader)
            known.begin()
            iterator._hpcsynapse_loader = known

        @functools.wraps(iterate)
        def __iter__(self: Any) -> Any:  # noqa: N807
            iterator = iterate(self)
            if guard.on:
                guard.call(begin, self, iterator)
            return iterator

        @functools.wraps(following)
        def __next__(self: Any) -> Any:  # noqa: N807
            loader = getattr(self, "_hpcsynapse_loader", None) if guard.on else None
            if loader is None or not (hooks._enabled or hooks._training)():
                return following(self)
            here = get_ident() == guard.thread  # a thread that takes batches ahead waits instead of the program
            try:
                if here and not steps.asked(loader):
                    loader = None
            except Exception as fault:
                guard.failed(fault)
            try:
                batch = following(self)
            except StopIteration:
                if here and loader is not None:
                    guard.call(steps.exhausted, loader)
                raise
            try:
                if loader is not None and guard.on:
                    give(loader, batch) if not here else steps.given(loader, batch)
            except Exception as fault:
                guard.failed(fault)
            return batch

        module.DataLoader.__iter__, module._BaseDataLoaderIter.__next__ = __iter__, __next__

    # Backward passes

    def autograd(self, module: Any) -> None:
        """Watch torch.autograd.backward, which Tensor.backward calls too."""
        guard, steps, hooks, backward = self._guard, self._steps, self, module.backward

        @functools.wraps(backward)
        def watched(*arguments: Any, **named: Any) -> Any:
            if steps.in_backward or not guard.on or get_ident() != guard.thread:
                return backward(*arguments, **named)
            try:
                hooks._backward_begins(arguments[0] if arguments else named.get("tensors"))
            except Exception as fault:
                guard.failed(fault)
            try:
                return backward(*arguments, **named)
            finally:
                try:
                    if guard.on:
                        hooks._backward_ends()
                except Exception as fault:
                    guard.failed(fault)

        module.backward = watched

    def _backward_begins(self, tensors: Any) -> None:
        unscaled, self._unscaled = self._unscaled, None
        loss = tensors[0] if isinstance(tensors, (list, tuple)) and tensors else tensors
        value, is_share = unscaled or _loss(loss, self._steps.backwards > 0)
        self._steps.backward_begins(value, is_share)

    def _backward_ends(self) -> None:
        self._steps.backward_ends()
        if self._steps.main is None:
            self._modules.watch_input()

    def grad_scaler(self, module: Any) -> None:
        """Watch GradScaler: `scale`, to tell a loss from its multiple; `update`, after which a step may be skipped."""
        if "scale" not in vars(module.GradScaler):  # inherited from one that is watched already
            return
        guard, scale, update = self._guard, module.GradScaler.scale, module.GradScaler.update

        @functools.wraps(scale)
        def watched(scaler: Any, outputs: Any) -> Any:
            if guard.here:
                self._unscaled = guard.call(_loss, outputs, True)
            return scale(scaler, outputs)

        @functools.wraps(update)
        def updated(*arguments: Any, **named: Any) -> Any:
            if guard.here:
                guard.call(self._steps.losses_over)
            return update(*arguments, **named)

        module.GradScaler.scale, module.GradScaler.update = watched, updated

    # Optimizers

    def optimizer(self, module: Any) -> None:
        """Watch the step of every class of optimizers, from the first time that one is made."""
        guard, make = self._guard, module.Optimizer.__init__

        @functools.wraps(make)
        def __init__(self_: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807
            make(self_, *arguments, **named)
            if guard.on:
                guard.call(self._watch_step, type(self_))

        module.Optimizer.__init__ = __init__

    def _watch_step(self, kind: Any) -> None:
        guard, steps, hooks, step, compiled = self._guard, self._steps, self, kind.step, _compiled()
        self._modules.watch_input()
        if getattr(step, "hpcsynapse_watched", False):
            return

        @functools.wraps(step)
        def watched(optimizer: Any, *arguments: Any, **named: Any) -> Any:
            # torch.compile must find nothing here that it cannot follow
            if compiled() or not guard.on or get_ident() != guard.thread:
                return step(optimizer, *arguments, **named)
            try:
                hooks._update_begins(optimizer)
            except Exception as fault:
                guard.failed(fault)
            try:
                result = step(optimizer, *arguments, **named)
            except BaseException:
                steps.update_failed()
                raise
            try:
                if guard.on:
                    hooks._update_ends(optimizer)
            except Exception as fault:
                guard.failed(fault)
            return result

        watched.hpcsynapse_watched = True  # type: ignore[attr-defined]
        kind.step = watched

    def _update_begins(self, optimizer: Any) -> None:
        if optimizer is not self._newest:
            self._on_update(optimizer)
            self._modules.optimized.add(optimizer)
            self._newest = optimizer
        self._steps.update_begins()

    def _update_ends(self, optimizer: Any) -> None:
        self._steps.update_ends(id(optimizer))
        self._modules.outermost = None
        if self._steps.main is None:
            self._modules.watch_input()

    # Checkpoints

    def serialization(self, module: Any) -> None:
        """Watch torch.save."""
        guard, steps, save = self._guard, self._steps, module.save

        @functools.wraps(save)
        def watched(*arguments: Any, **named: Any) -> Any:
            paused = guard.here and guard.call(steps.begin_pause, "checkpoint")
            try:
                return save(*arguments, **named)
            finally:
                if paused:
                    guard.call(steps.end_pause)

        module.save = watched


def _compiled() -> Callable[[], bool]:
    """Return torch's own function that tells whether a program is being compiled, from torch 2.1 on."""
    compiler = getattr(sys.modules.get("torch"), "compiler", None)
    found: Callable[[], bool] = getattr(compiler, "is_compiling", bool)
    return found


def _loss(loss: Any, accumulates: bool) -> tuple[float, bool]:
    """Return the value of a loss and, where a step accumulates, whether it is a share of the step's.

    It is NaN on a device, for which one would have to wait.
    """
    try:
        value = loss.item() if loss.is_cpu else NAN
    except Exception:  # no tensor, or one that has no value
        return NAN, False
    return value, accumulates and type(loss.grad_fn).__name__ in _SHARES
