"""What one server holds: its part of the parameters in chunks, an optimizer for each, and how both are saved."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.checkpoint_files import damage, write
from hpcsynapse.trainer.optim import make_optimizer
from hpcsynapse.trainer.parameter_server.frames import CHUNK
from hpcsynapse.trainer.parameter_server.layout import as_bytes

FORMAT = 1
_FLOAT = 4  # bytes
_log = logging.getLogger(__name__)


class Chunk:
    """Up to CHUNK bytes of the parameters, with an optimizer of their own: every rule here acts element by element."""

    __slots__ = ("begin", "end", "lock", "optimizer", "parameter", "plain")

    def __init__(self, begin: int, values: Tensor, train: TrainSpec) -> None:
        self.begin, self.end = begin * _FLOAT, (begin + len(values)) * _FLOAT  # bytes within the server's part
        self.parameter = nn.Parameter(values)
        self.optimizer = _optimizer(train, self.parameter)
        self.plain = train.optimizer == "sgd" and not train.momentum and not train.weight_decay
        self.lock = threading.Lock()

    def apply(self, gradient: Tensor, rate: float) -> None:
        """Update by a gradient at a learning rate."""
        with self.lock:
            if self.plain:  # what step() comes to; its checks take as long as the update (benchmarks/parameter_server)
                self.parameter.data.add_(gradient, alpha=-rate)
                return
            held = self.optimizer.state.get(self.parameter, {}).get("momentum_buffer")  # after the first step
            if held is not None and isinstance(self.optimizer, torch.optim.SGD):
                self._update(gradient, held, rate)
                return
            self.parameter.grad = gradient
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.step()

    def _update(self, gradient: Tensor, held: Tensor, rate: float) -> None:
        """Make a step of SGD with momentum as its optimizer would, without its checks: a fifth of the time."""
        group = self.optimizer.param_groups[0]
        sgd(
            [self.parameter.data],
            [gradient],
            [held],
            fused=group.get("fused"),
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=rate,
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=False,
        )


def _optimizer(train: TrainSpec, parameter: nn.Parameter) -> torch.optim.Optimizer:
    try:
        return make_optimizer(train, [parameter], fused=True)
    except RuntimeError:  # a torch without it
        return make_optimizer(train, [parameter])


class Part:
    """A server's part of the parameters; `view` is its memory, which is sent as it is.

    Readers take no lock: what they send while an update goes on mixes elements of two versions, each of them whole.
    """

    def __init__(self, elements: int, train: TrainSpec) -> None:
        self.values = torch.zeros(elements)
        self.view = as_bytes(self.values)
        step = CHUNK // _FLOAT
        self.chunks = [Chunk(begin, self.values[begin : begin + step], train) for begin in range(0, elements, step)]

    def snapshot(self) -> list[dict[str, Any]]:
        """Return copies of parameters and optimizer state, one chunk after another."""
        found = []
        for chunk in self.chunks:
            with chunk.lock:
                state = {key: _copied(values) for key, values in chunk.optimizer.state_dict()["state"].items()}
                found.append({"parameters": chunk.parameter.detach().clone(), "optimizer": state})
        return found

    def restore(self, chunks: list[dict[str, Any]]) -> None:
        """Take up a snapshot; raises TrainError when it is of another part or rule."""
        sizes = [len(chunk["parameters"]) for chunk in chunks]
        if sizes != [chunk.parameter.numel() for chunk in self.chunks]:
            raise TrainError("it holds another number of parameters")
        for chunk, saved in zip(self.chunks, chunks, strict=True):
            with chunk.lock, torch.no_grad():
                chunk.parameter.copy_(saved["parameters"])
                state = chunk.optimizer.state_dict()
                chunk.optimizer.load_state_dict({**state, "state": saved["optimizer"]})


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in values.items()}


def save(path: Path, content: dict[str, Any]) -> None:
    """Replace a file of saved state in one step; raises OSError."""
    write(path, {"format": FORMAT, **content})


def load(path: Path) -> dict[str, Any] | None:
    """Return saved state, or None where there is none or it is damaged; raises TrainError for another format."""
    if not path.is_file():
        return None
    if reason := damage(path):
        _log.warning("%s is damaged (%s): starting without it", path, reason)
        return None
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if content.get("format") != FORMAT:
        raise TrainError(f"{path}: format {content.get('format')} is not known to this release")
    return content
