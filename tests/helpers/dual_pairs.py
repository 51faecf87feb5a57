"""Two halves in one process: every exchange is made by hand, or by two threads over files."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hpcsynapse.spec.training import DualOptions, TrainSpec
from hpcsynapse.trainer import optim
from hpcsynapse.trainer.dual import halves
from hpcsynapse.trainer.dual.cut import find_cut
from hpcsynapse.trainer.dual.exchange import FileExchange
from hpcsynapse.trainer.dual.net1 import Net1
from hpcsynapse.trainer.dual.net2 import Net2
from hpcsynapse.trainer.dual.ranks import FirstRank, SecondRank
from hpcsynapse.trainer.dual.statistics import Statistics
from hpcsynapse.trainer.objective import Objective

FEATURES, CLASSES, BATCH = 6, 3, 8
TRAIN = TrainSpec(optimizer="sgd", lr=0.1, momentum=0.9, batch=BATCH)


class NoClock:
    def mark(self, phase: str, stamp: Any = None) -> None:
        pass


def network() -> nn.Sequential:
    torch.manual_seed(11)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        one=nn.Linear(FEATURES, 10), act1=nn.ReLU(), two=nn.Linear(10, 10), act2=nn.Tanh(), three=nn.Linear(10, CLASSES)
    )
    model = nn.Sequential(layers)
    model.cut = "act1"  # type: ignore[assignment]
    return model


def batches(count: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Samples whose label is the largest of three sums."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, BATCH, FEATURES, generator=generator)
    labels = inputs.reshape(count, BATCH, CLASSES, -1).sum(dim=3).argmax(dim=2)
    return list(zip(inputs, labels, strict=True))


def pair(options: DualOptions, train: TrainSpec = TRAIN, make: Callable[[], nn.Module] = network) -> tuple[Net1, Net2]:
    """Both halves of the same network, each with its own optimizer."""
    models = [make(), make()]
    optimizers = [optim.make_optimizer(train, model.parameters()) for model in models]
    first = halves.make_first(find_cut(models[0], options.cut), optimizers[0], NoClock(), train, options)
    objective = Objective(models[1])
    second = halves.make_second(find_cut(models[1], options.cut), optimizers[1], NoClock(), train, options, objective)
    first.beta = second.beta = options.beta
    return first, second


def exchange(first: Net1, second: Net2, inputs: torch.Tensor, labels: Any, indices: Any = range(BATCH)) -> float:
    """Make one whole exchange by hand; returns net2's loss."""
    sent = first.forward(inputs)
    activation = sent.activation.clone()
    second.take(indices)
    loss, answer = second.answer(activation, labels)
    if answer is not None:
        first.learn(sent, answer.clone())
    second.learn(activation, labels)
    return float(loss)


def whole(first: Net1, second: Net2) -> dict[str, torch.Tensor]:
    """The parameters of both."""
    return copy.deepcopy({**first.network.state_dict(), **second.network.state_dict()})


def sides(folder: Path, options: DualOptions, attempt: str = "0") -> tuple[FirstRank, SecondRank]:
    """Both sides, with files between them."""
    first, second = pair(options)
    links = [FileExchange(folder, rank, 1 - rank, attempt, 20.0) for rank in (0, 1)]
    links[0].prepare()
    statistics = [Statistics(folder / f"rank-{rank}.json", half=f"net{rank + 1}") for rank in (0, 1)]
    cpu = torch.device("cpu")
    return FirstRank(first, links[0], statistics[0], options, cpu), SecondRank(
        second, links[1], statistics[1], options, cpu
    )


def together(front: Callable[[], Any], back: Callable[[], Any]) -> tuple[Any, Any]:
    """Run both at once and return what both return; an error of either is raised."""
    found: dict[str, Any] = {}

    def run(name: str, work: Callable[[], Any]) -> None:
        try:
            found[name] = work()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            found[name] = error

    threads = [threading.Thread(target=run, args=item) for item in (("front", front), ("back", back))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for result in found.values():
        if isinstance(result, BaseException):
            raise result
    return found["front"], found["back"]
