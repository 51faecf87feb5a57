"""What is watched in torch's modules: evaluation, and samples where a program has no loader."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from .batches import size_of
from .guard import Guard
from .steps import Steps


class Modules:
    """Connects torch's modules to the steps; `training()` tells whether gradients are recorded.

    `optimized` are the optimizers that made updates; `outermost` is the id of the module whose input was looked at.
    """

    def __init__(self, steps: Steps, guard: Guard, training: Callable[[], bool]) -> None:
        self._steps, self._guard, self._training = steps, guard, training
        self.optimized: Any = weakref.WeakSet()
        self.outermost: int | None = None
        self._looking = False
        self._module: Any = None
        self._main: Any = weakref.WeakKeyDictionary()

    def watch(self, module: Any) -> None:
        """Watch Module.eval; the input of the outermost module is looked at where there is no loader."""
        self._module = module
        guard, evaluate = self._guard, module.Module.eval

        @functools.wraps(evaluate)
        def watched(model: Any) -> Any:
            if guard.here:
                guard.call(self._evaluation, model)
            return evaluate(model)

        module.Module.eval = watched

    def _evaluation(self, model: Any) -> None:
        if self._is_main(model) and self._steps.begin_pause("validation"):
            self._until_training()

    def _is_main(self, model: Any) -> bool:
        """Whether most of what is trained belongs to a module: parts of a model may be frozen by eval at every step."""
        known: bool | None = self._main.get(model)
        if known is None and self.optimized:
            own = {id(parameter) for parameter in model.parameters()}
            for optimizer in self.optimized:
                trained = [p for group in optimizer.param_groups for p in group["params"]]
                found = sum(p.numel() for p in trained if id(p) in own)
                known = known or 2 * found > sum(p.numel() for p in trained)
            self._main[model] = known
        return bool(known)

    def _until_training(self) -> None:
        """End the pause when a module is put to training again; only meanwhile Module.train is watched."""
        guard, steps, kind = self._guard, self._steps, self._module.Module
        train = kind.train

        @functools.wraps(train)
        def watched(model: Any, mode: bool = True) -> Any:
            if mode or not steps.paused:
                kind.train = train
                if guard.here:
                    guard.call(steps.end_pause)
            return train(model, mode)

        kind.train = watched

    def watch_input(self) -> None:
        """Without a loader: look at the first dimension of what the outermost module is given next."""
        if self._steps.main is not None or self._module is None or self._looking:
            return
        self._looking = True

        def look(model: Any, inputs: Any) -> None:
            if not self._guard.here or not self._training():
                return
            handle.remove()
            self._looking = False
            if self.outermost in (None, id(model)):
                self.outermost = id(model)
                self._guard.call(self._steps.fed, size_of(inputs))

        handle = self._module.register_module_forward_pre_hook(look)
