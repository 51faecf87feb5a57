"""What a rank tells of its half: losses, the size of activations, bytes exchanged, memory; one small JSON file."""

from __future__ import annotations

import logging
import math
import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpcsynapse.files import write_json

_log = logging.getLogger(__name__)
_INTERVAL = 1.0  # seconds between two files at least
SHRUNK, GROWN, DEAD = 0.05, 100.0, 0.95


def verdict(first: float, now: float, dead: float) -> str:
    """Name what has become of the activations: `collapsed`, `diverged`, or nothing.

    `first` and `now` are norms, `dead` is the share of activations that are exactly zero.
    """
    if not math.isfinite(now) or now > GROWN * first:
        return "diverged"
    return "collapsed" if now < SHRUNK * first or dead > DEAD else ""


class Statistics:
    """Collects without waiting for the device, and writes at most once a second and when told to."""

    def __init__(self, path: Path, **about: Any) -> None:
        self._path, self._about = path, about
        self._written = -math.inf
        self._loss: Tensor | None = None
        self._norm: Tensor | None = None
        self._dead: Tensor | None = None
        self._first: Tensor | float | None = None
        self._before: dict[str, int] = {}
        self.counts = {"exchanges": 0, "sent_bytes": 0, "received_bytes": 0}
        self.verdict = ""

    def note(self, loss: Tensor | None, activation: Tensor, sent: int, received: int) -> None:
        """Take the results of one exchange; of the activation its size is kept: the norm's root mean square."""
        if loss is not None:
            self._loss = loss
        activation = activation.detach()
        self._norm = activation.to(torch.float32).square().sum().div(len(activation)).sqrt()
        self._dead = (activation == 0).double().mean()
        if self._first is None:
            self._first = self._norm
        self.counts["exchanges"] += 1
        self.count(sent, received)
        if time.monotonic() - self._written > _INTERVAL:
            self.write()

    def count(self, sent: int, received: int) -> None:
        """Take the bytes exchanged since the start of this process."""
        self.counts["sent_bytes"] = self._before.get("sent_bytes", 0) + sent
        self.counts["received_bytes"] = self._before.get("received_bytes", 0) + received

    def tell(self, **about: Any) -> None:
        """Add what stays true."""
        self._about.update(about)

    def state(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        return {"counts": self.counts, "norm_first": None if self._first is None else float(self._first)}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from the state of an earlier start."""
        self._before, self._first = state["counts"], state["norm_first"]
        self.counts = dict(self._before)

    def write(self) -> None:
        """Write the file; a first collapse is told in the log too."""
        self._written = time.monotonic()
        found = {**self._about, **self.counts, **self._measured(), **_memory()}
        try:
            self._path.parent.mkdir(exist_ok=True)
            write_json(self._path, found)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error)

    def _measured(self) -> dict[str, Any]:
        loss = None if self._loss is None else float(self._loss)
        if self._norm is None or self._dead is None or self._first is None:
            return {"loss": loss}
        first, now, dead = float(self._first), float(self._norm), float(self._dead)
        found = verdict(first, now, dead)
        if found and found != self.verdict:
            _log.warning(
                "activations have %s: their norm is %.3g, it began at %.3g, and %.1f %% are zero",
                found,
                now,
                first,
                100 * dead,
            )
        self.verdict = found
        return {"loss": loss, "activation_norm_first": first, "activation_norm": now, "dead": dead, "verdict": found}


def _memory() -> dict[str, int]:
    found = {"peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["peak_device_bytes"] = torch.cuda.max_memory_allocated()
    return found


def restart_peak(device: torch.device) -> None:
    """Begin to count the peak of a device's memory anew, as when the other half of a model has gone."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
