"""Callbacks for Lightning, the Trainer of Hugging Face and loops with Accelerate; none of them is imported here.

Each stops the training at a step boundary where `should_stop` says so, broadcasts parameters every so many steps where
asked to, and records steps where they are not recorded from outside (`--record off`, or no run at all).
"""

from __future__ import annotations

import os
import sys
from typing import Any

from hpcsynapse.loops.broadcast import BroadcastEvery
from hpcsynapse.loops.stopping import should_stop
from hpcsynapse.timing import StepRecorder

_NAN = float("nan")


class LoopCallback:
    """What all callbacks do at the begin and the end of a step."""

    def __init__(self, broadcast_every: int | None = None) -> None:
        self._every = broadcast_every
        self._broadcast: BroadcastEvery | None = None
        self._recorder: StepRecorder | None = None
        self._records = bool(os.environ.get("HPCSYNAPSE_RUN_DIR")) and "_hpcsynapse_recording" not in sys.modules
        self._within = False

    def begin_step(self) -> None:
        """A step begins: its batch is there."""
        if self._records and not self._within:
            self._recorder = self._recorder or StepRecorder()
            self._recorder.begin()
        self._within = True

    def end_step(self, model: Any, samples: int, loss: float = _NAN, epoch: int = 0) -> bool:
        """A step has ended, on all ranks; return whether the training is to stop after it."""
        if self._recorder is not None and self._within:
            self._recorder.end(samples=samples, loss=loss, epoch=epoch)
        self._within = False
        self._broadcaster(model, lambda one: one.step())
        return should_stop()

    def end_epoch(self, model: Any) -> None:
        """An epoch has ended, on all ranks."""
        self._broadcaster(model, lambda one: one.epoch())

    def _broadcaster(self, model: Any, call: Any) -> None:
        if self._every is not None and model is not None:
            self._broadcast = self._broadcast or BroadcastEvery(model, self._every)
            call(self._broadcast)

    def close(self) -> None:
        """Write what has not been written yet."""
        if self._recorder is not None:
            self._recorder.close()
            self._recorder, self._records = None, False

    def __getattr__(self, name: str) -> Any:
        """Every hook of a framework that is not named here does nothing."""
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def _nothing(*_arguments: Any, **_named: Any) -> None:
    """Do nothing."""


class LightningCallback(LoopCallback):
    """`lightning.Trainer(callbacks=[LightningCallback()])`; `broadcast_every` is that of `BroadcastEvery`, if any."""

    state_key = _legacy_state_key = "hpcsynapse"
    _before = _seen = 0

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """Nothing is to be prepared."""

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Write what has not been written yet."""
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: checkpoints hold nothing of this callback."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing up."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        """The first batch of a step begins it."""
        if not self._within:
            self._before, self._seen = trainer.global_step, 0
        self.begin_step()
        self._seen += _samples(batch)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """The batch after which an optimizer has made its step ends one."""
        if trainer.global_step == self._before:  # gradients are accumulated
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if self.end_step(module, self._seen, _on_cpu(loss), trainer.current_epoch):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Broadcast where that is wanted after every epoch."""
        self.end_epoch(module)


class TrainerCallback(LoopCallback):
    """`Trainer(..., callbacks=[TrainerCallback()])` of Hugging Face; it saves before it stops."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
        """A step of the optimizer begins."""
        self.begin_step()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_more: Any) -> None:
        """A step of the optimizer has ended."""
        samples = args.per_device_train_batch_size * args.gradient_accumulation_steps
        if self.end_step(model, samples, epoch=int(state.epoch or 0)):
            control.should_save = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_more: Any) -> None:
        """Broadcast where that is wanted after every epoch."""
        self.end_epoch(model)

    def on_train_end(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
        """Write what has not been written yet."""
        self.close()


class AccelerateCallback(LoopCallback):
    """For a loop with an Accelerator: `if callback.step(model, samples=len(inputs)): break` after the optimizer's step.

    Batches between which `accelerator.accumulate` makes no step of the optimizer count as one step.
    """

    def __init__(self, accelerator: Any, broadcast_every: int | None = None) -> None:
        super().__init__(broadcast_every)
        self._accelerator = accelerator
        self._seen = 0
        self.begin_step()

    def step(self, model: Any, *, samples: int, loss: Any = _NAN, epoch: int = 0) -> bool:
        """A batch was trained on; return whether all ranks stop after it."""
        self._seen += samples
        if not self._accelerator.sync_gradients:
            return False
        stop = self.end_step(self._accelerator.unwrap_model(model), self._seen, _on_cpu(loss), epoch)
        self._seen = 0
        self.begin_step()
        return stop


def _samples(batch: Any) -> int:
    """Return the first dimension of the first tensor in a batch, 1 where there is none."""
    while isinstance(batch, (dict, list, tuple)) and batch:
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    shape: Any = getattr(batch, "shape", ())
    return int(shape[0]) if len(shape) else 1


def _on_cpu(loss: Any) -> float:
    """Return a loss that is there already; one on a device would have to be waited for."""
    if isinstance(loss, (int, float)):
        return float(loss)
    return float(loss.detach()) if getattr(loss, "is_cpu", False) and loss.numel() == 1 else _NAN
