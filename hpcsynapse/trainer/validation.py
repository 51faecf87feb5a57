"""Validation: loss and metrics over a data set that ranks share out, every sample counted exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hpcsynapse.trainer.data.base import Data, Dataset, Indices
from hpcsynapse.trainer.data.batches import to_device
from hpcsynapse.trainer.data.sharding import chunk
from hpcsynapse.trainer.engines.base import Engine
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.tally import Tally, Validation


class EvenlySpaced:
    """A data set of so many samples of another one, or all of fewer, at equal distances."""

    def __init__(self, data: Dataset, samples: int) -> None:
        self._data, self._samples = data, min(samples, len(data))

    def __len__(self) -> int:
        return self._samples

    def batch(self, indices: Indices) -> tuple[Any, Any]:
        """Return inputs and targets of the samples with these numbers."""
        return self._data.batch(indices * len(self._data) // self._samples)


def validate(evaluate: Callable[[Dataset], Validation | None], data: Data, on_training: bool) -> Validation | None:
    """Return the result on the validation samples, `on_training` with train_NAME for as many training samples.

    None on a rank that takes no part.
    """
    if data.validation is None:
        return None
    found = evaluate(data.validation)
    seen = evaluate(EvenlySpaced(data.train, len(data.validation))) if on_training else None
    if found is None:
        return None
    more = {f"train_{name}": value for name, value in seen.metrics.items()} if seen else {}
    return Validation({**found.metrics, **more}, found.counts and found.counts.named(data.names))


@torch.no_grad()
def evaluate(
    model: nn.Module,
    objective: Objective,
    data: Dataset,
    batch: int,
    engine: Engine,
    device: torch.device,
    progress: Callable[[], bool],
    rounds: int = 0,
) -> Validation | None:
    """Return loss, metrics and counts over a data set shared out over the ranks.

    At least so many `rounds` are made, further ones without samples, where ranks compute together. The model is in eval
    mode meanwhile; `progress` is called after every batch and tells whether to leave it: then,
    and where that holds on another rank, the result is None. Raises TrainError when ranks report different metrics.
    """
    was_training = model.training
    model.eval()
    own = chunk(len(data), engine.rank, engine.size)
    tally = Tally(objective)
    left = False
    # A rank without samples looks at one and adds none: it must know the names of the metrics.
    starts = list(range(own.start, own.stop, batch))
    for first in starts + [-1] * max(rounds - len(starts), 0 if own else 1):
        counts = first >= 0
        indices: Indices = torch.arange(max(first, 0), min(first + batch, own.stop) if counts else 1).numpy()
        inputs, targets = (to_device(part, device) for part in data.batch(indices))
        tally.add(model(inputs), targets, len(indices) if counts else 0)
        left = progress()
        if left:
            break
    model.train(was_training)
    return None if engine.reduce([float(left)], "max")[0] else tally.total(engine)
