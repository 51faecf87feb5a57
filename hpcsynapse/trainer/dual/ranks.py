"""What each of the two ranks does, step by step: who sends what when, in training, validation and checkpoints."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from hpcsynapse.runs.class_counts import ClassCounts
from hpcsynapse.spec.training import DualOptions
from hpcsynapse.trainer.data.base import Dataset, Indices
from hpcsynapse.trainer.data.batches import to_device
from hpcsynapse.trainer.dual import state
from hpcsynapse.trainer.dual.exchange import Exchange
from hpcsynapse.trainer.dual.half import Half
from hpcsynapse.trainer.dual.net1 import Net1, SentBatch
from hpcsynapse.trainer.dual.net2 import Net2
from hpcsynapse.trainer.dual.statistics import Statistics
from hpcsynapse.trainer.tally import Tally, Validation

_log = logging.getLogger(__name__)
_MOST_GROWTH = 80.0  # of the logarithm of beta
ACTIVATION, ANSWER = "activation", "answer"


class DualRank(ABC):
    """One rank's half with its exchange and its statistics; `open` while the last answer is not yet learnt from."""

    def __init__(
        self, half: Half, exchange: Exchange, statistics: Statistics, options: DualOptions, device: torch.device
    ) -> None:
        self.half, self.exchange, self.statistics, self.options, self.device = (
            half,
            exchange,
            statistics,
            options,
            device,
        )
        self.open = False
        self.set_beta(0, 0)

    def set_beta(self, epoch: int, step: int) -> None:
        """Set beta of an epoch, and of a step counted over all epochs; it grows no further than numbers reach."""
        options = self.options
        by_epoch = options.beta * options.beta_growth ** min(epoch, 100)
        by_step = math.exp(min(step * math.log(options.beta_step_growth), _MOST_GROWTH))
        self.half.beta = min(by_epoch * by_step, 1e12)

    @abstractmethod
    def step(self, inputs: Any, targets: Any) -> Tensor:
        """Train on one batch and return this half's loss."""

    @abstractmethod
    def take(self, indices: Indices) -> None:
        """Learn which samples come next."""

    @abstractmethod
    def settle(self) -> None:
        """Learn from an answer that is still to come, at the end of a run."""

    @abstractmethod
    def evaluate(self, data: Dataset, batch: int, alive: Callable[[], bool]) -> Validation:
        """Return loss and metrics of both halves together, on both ranks."""

    def note(self, loss: Tensor | None, activation: Tensor) -> None:
        """Keep the statistics of an exchange."""
        self.statistics.note(loss, activation, *self.bytes())

    def bytes(self) -> tuple[int, int]:
        """Return the bytes of activations and answers (sent, received)."""
        sent, received = self.exchange.sent, self.exchange.received
        return sent[ACTIVATION] + sent[ANSWER], received[ACTIVATION] + received[ANSWER]

    def receive(self, name: str) -> Tensor:
        """Return a message on this rank's device."""
        tensor = self.exchange.receive(name).to(self.device)
        if name in (ACTIVATION, ANSWER):
            self.half.clock.mark("communicate")
        return tensor

    def send(self, name: str, tensor: Tensor) -> None:
        """Send a message."""
        self.exchange.send(name, tensor)
        if name in (ACTIVATION, ANSWER):
            self.half.clock.mark("communicate")


class FirstRank(DualRank):
    """Rank 0: takes the inputs, trains net1."""

    half: Net1
    due: SentBatch | None = None  # of one batch ago, with `one_batch_late`
    answer: Tensor | None = None  # to it, where it was taken before the next step

    def step(self, inputs: Any, targets: Any) -> Tensor:
        """Send an activation and learn from the answer to it, or to the one before."""
        sent = self.half.forward(inputs)
        self.send(ACTIVATION, sent.activation)
        loss = None
        if self.half.answered:
            due, self.due = (self.due, sent) if self.options.one_batch_late else (sent, None)
            loss = self._learn(due) if due is not None else None
            self.open = self.due is not None
        self.note(loss, sent.activation)
        return torch.tensor(float("nan")) if loss is None else loss

    def _learn(self, due: SentBatch) -> Tensor:
        answer, self.answer = self.answer, None
        return self.half.learn(due, self.receive(ANSWER) if answer is None else answer)

    def _collect(self) -> None:
        """Take an answer that is still to come: it was sent before all that is expected now."""
        if self.due is not None and self.answer is None:
            self.answer = self.receive(ANSWER)

    def take(self, indices: Indices) -> None:
        """Do nothing: multipliers are kept at the other side."""

    def settle(self) -> None:
        """Learn from the last answer."""
        if self.due is not None:
            self._learn(self.due)
        self.due, self.open = None, False

    @torch.no_grad()
    def evaluate(self, data: Dataset, batch: int, alive: Callable[[], bool]) -> Validation:
        """Send the activations of all samples; the other side measures."""
        self._collect()
        for inputs, _, _ in _batches(data, batch):
            self.send("validation", self.half.network(to_device(inputs, self.device)))
            alive()
        told = state.unpack(self.exchange.receive("metrics"))
        counts = told["counts"]
        return Validation(told["metrics"], None if counts is None else ClassCounts.from_dict(counts))

    def extra_state(self) -> dict[str, Any]:
        """Return what a resumed run needs of this side; an answer that is still to come is waited for first."""
        self._collect()
        kept: dict[str, Any] = {"first": self.half.extra_state()}
        if self.due is not None:
            kept["due"] = [self.due.inputs, self.due.activation, self.answer]
        return kept

    def load_extra_state(self, kept: dict[str, Any]) -> None:
        """Take up what `extra_state` returned."""
        self.half.load_extra_state(kept.get("first", {}))
        if "due" in kept:
            inputs, activation, self.answer = (to_device(part, self.device) for part in kept["due"])
            self.due = SentBatch(inputs, activation)


class SecondRank(DualRank):
    """Rank 1: takes the labels, trains net2."""

    half: Net2

    def step(self, inputs: Any, targets: Any) -> Tensor:
        """Answer an activation, then learn."""
        activation = self.receive(ACTIVATION)
        loss, answer = self.half.answer(activation, targets)
        if answer is not None:  # first: the other side can go on meanwhile
            self.send(ANSWER, answer)
            self.open = self.options.one_batch_late
        self.half.learn(activation, targets)
        self.note(loss, activation)
        return loss

    def take(self, indices: Indices) -> None:
        """Tell net2 whose multipliers are needed next."""
        self.half.take(indices)

    def settle(self) -> None:
        """Do nothing: the answer has been sent."""
        self.open = False

    @torch.no_grad()
    def evaluate(self, data: Dataset, batch: int, alive: Callable[[], bool]) -> Validation:
        """Measure on the activations of all samples."""
        tally = Tally(self.half.objective)
        for _, targets, count in _batches(data, batch):
            labels = to_device(targets, self.device)
            tally.add(self.half.network(self.receive("validation")), labels, count)
            alive()
        found = tally.total()
        counts = None if found.counts is None else found.counts.to_dict()
        self.send("metrics", state.pack({"metrics": found.metrics, "counts": counts}))
        return found


def _batches(data: Dataset, batch: int) -> Iterator[tuple[Any, Any, int]]:
    """Yield inputs, targets and size of consecutive batches."""
    for first in range(0, len(data), batch):
        indices: Indices = torch.arange(first, min(first + batch, len(data))).numpy()
        yield (*data.batch(indices), len(indices))
