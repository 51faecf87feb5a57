"""Rank 0's voice: status.json, history and TensorBoard, written beside the training; and its ear, the stop file."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from hpcsynapse.files import is_there, write_json
from hpcsynapse.runs.class_counts import ClassCounts
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.trainer.patience import validations_without_better
from hpcsynapse.trainer.tensorboard import Scalars

_log = logging.getLogger(__name__)
_INTERVAL = 1.0  # seconds between looks at the stop file, and at least between two status files
_TOLD = ("accuracy", "mae", "psnr")  # of the metrics, in the line of an epoch


class Reporter:
    """Keeps status.json true while a run trains, where it is `active`, and looks for a wish to stop where it `listens`.

    The loop only assigns numbers; a thread writes them once a second, so that a slow file system delays no step.
    Numbers are per run: `samples_per_s` counts all ranks over the time since the last file.
    """

    def __init__(self, run: RunDirectory, active: bool, **about: Any) -> None:
        self._run = run
        self.active = self.listens = active
        self._status: dict[str, Any] = {"state": RunState.SETUP, **about}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self.stop_requested = False
        self.scalars: Scalars | None = None
        self.step = self.epoch = self.steps = self.global_batch = 0
        self.loss = self.lr = float("nan")
        self._window = (time.monotonic(), 0)
        self._thread = threading.Thread(target=self._watch, name="reporter", daemon=True)

    def start(self) -> None:
        """Say SETUP and begin to watch."""
        self.state(RunState.SETUP)
        self._thread.start()

    def about(self, **facts: Any) -> None:
        """Add facts that stay true: engine, controller, number of epochs, newest validation metrics."""
        self._status.update(facts)

    def state(self, name: str, reason: str = "", **more: Any) -> None:
        """Write a new state to status.json and history at once."""
        if not self.active:
            return
        self._status["state"] = name
        if name != RunState.TRAINING:
            self._status["eta_s"] = None
        if reason:
            self._status["reason"] = reason
        self._window = (time.monotonic(), self.step)
        self._write()
        try:
            self._run.append_history(name, reason, step=self.step, epoch=self.epoch, **more)
        except OSError as error:
            _log.warning("history cannot be written: %s", error)

    def note(self, text: str, **more: Any) -> None:
        """Put on record in history and log what is no new state."""
        if not self.active:
            return
        _log.info(text)
        try:
            self._run.append_history(str(self._status["state"]), text, **more)
        except OSError as error:
            _log.warning("history cannot be written: %s", error)

    def metrics(self, values: dict[str, float], samples: int, counts: ClassCounts | None = None) -> None:
        """Keep validation results in the status, in the run's learning curve, and write them for TensorBoard.

        `samples` are those that all ranks have trained on so far. Counts by class replace those of the validation
        before.
        """
        self.about(metrics=values)
        if self.active:
            try:
                self._run.append_metrics(self.step, self.epoch, samples, values)
                if counts is not None:
                    self._run.write_class_counts(self.step, self.epoch, samples, counts)
            except OSError as error:
                _log.warning("learning curve cannot be written: %s", error)
        self._draw("validation", values, self.step)

    def tell_epoch(self, rate: float, metrics: Mapping[str, float]) -> None:
        """Print one line about an epoch that is over, with the metrics of its validation.

        `rate` is in samples of all ranks a second, without validation.
        """
        if not self.active:
            return
        told = [f"epoch {self.epoch}/{self._status.get('epochs', '?')}", f"step {self.step}/{self.steps}"]
        if math.isfinite(self.loss):
            told.append(f"loss {self.loss:.4f}")
        told += [f"{name} {value:.4f}" for name, value in metrics.items() if name in _TOLD]
        _log.info("%s  %.0f samples/s", "  ".join(told), rate)

    def close(self) -> None:
        """End the thread."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(10.0)
        if self.scalars is not None:
            self.scalars.close()

    def has_metrics(self, step: int) -> bool:
        """Tell whether the learning curve has a point at a step."""
        return any(record.get("step") == step for record in self._run.read_metrics())

    def without_better(self, metric: str) -> int:
        """Return how many validations in a row have not been better than the best before them."""
        return validations_without_better(self._run.read_metrics(), metric)

    def look(self) -> bool:
        """Look for the stop file now; return whether it has been seen. An error of the file system is looked past."""
        self.stop_requested = self.stop_requested or is_there(self._run.stop)
        return self.stop_requested

    def _draw(self, group: str, values: dict[str, float], step: int) -> None:
        """Write for TensorBoard, which is given up at the first error: training must not end of it."""
        if self.scalars is None:
            return
        try:
            self.scalars.add(group, values, step)
        except (OSError, RuntimeError, ValueError) as error:
            _log.warning("nothing more is written for TensorBoard: %s", error)
            self.scalars = None

    def _watch(self) -> None:
        written = self.step
        while not self._done.wait(_INTERVAL):
            if self.listens:
                self.look()
            now, step = time.monotonic(), self.step
            # No step since the last file, or none yet since the window began anew after a validation.
            if not self.active or step in (written, self._window[1]) or self._status["state"] != RunState.TRAINING:
                continue
            rate = (step - self._window[1]) * self.global_batch / max(now - self._window[0], 1e-9)
            self._window, written = (now, step), step
            self.about(samples_per_s=rate, eta_s=(self.steps - step) * self.global_batch / rate if rate else None)
            self._write()
            self._draw("train", {"loss": self.loss, "lr": self.lr, "samples_per_s": rate}, step)

    def _write(self) -> None:
        with self._lock:
            status = {
                **self._status,
                "time": time.time(),
                "step": self.step,
                "steps": self.steps,
                "epoch": self.epoch,
                "loss": _known(self.loss),
                "lr": _known(self.lr),
            }
            try:
                write_json(self._run.status, status)
            except OSError as error:
                _log.warning("status cannot be written: %s", error)


def _known(value: float) -> float | None:
    """Return a number, or None for one that is not (yet) there: JSON has no NaN."""
    return value if math.isfinite(value) else None
