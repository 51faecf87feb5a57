"""How much memory a training step takes on the single net and on each half, and the largest batch that fits a limit.

    python -m hpcsynapse.trainer.dual.memory --limit 256M [--model dualnet] [--cut pool2] [--shape 1,28,28]

A step is run on shapes alone (torch's device `meta`), and every tensor that lives at the same time is counted:
parameters, gradients, optimizer state, batch, activations, and what backward needs in passing. Not counted is what
libraries take for themselves: Python and torch, a CUDA context, work space of convolutions.
"""

from __future__ import annotations

import argparse
import copy
import sys
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.spec.training import DualOptions, TrainSpec
from hpcsynapse.trainer import models, optim
from hpcsynapse.trainer.dual import halves, targets
from hpcsynapse.trainer.dual.cut import find_cut
from hpcsynapse.trainer.dual.net1 import Matching, Net1, SentBatch
from hpcsynapse.trainer.dual.net2 import Net2
from hpcsynapse.trainer.engines.base import Optimizer
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.units import parse_mebibytes

PARTS = ("single", "net1", "net2")
_LARGEST = 1 << 24
Step = Callable[[], object]


class PeakBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that live at once, of tensors made inside and of those it is shown."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def show(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def freed(_: Any) -> None:
            self._known.pop(key, None)
            self.live -= size

        self._known[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.show(leaf)
        return result


def peak_bytes(step: Step, present: Iterable[Tensor]) -> int:
    """Return the most bytes that live at once in a step, with what was `present` before.

    The step is made twice: the first one makes the optimizer's state.
    """
    with PeakBytes() as counter:
        for tensor in present:
            counter.show(tensor)
        step()
        step()
    peak: int = counter.peak
    return peak


def blueprint(model: nn.Module) -> nn.Module:
    """Return a copy of a model that has shapes only and takes no memory."""
    memo: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    memo |= {
        id(value): nn.Parameter(value.detach().to("meta"), requires_grad=value.requires_grad)
        for value in model.parameters()
    }
    return copy.deepcopy(model, memo)


def part_bytes(plan: nn.Module, part: str, train: TrainSpec, options: DualOptions, inputs: Tensor, labels: Any) -> int:
    """Return the peak of a step of one of PARTS, for a batch that has shapes only too."""
    model = copy.deepcopy(plan)
    optimizer, objective = optim.make_optimizer(train, model.parameters()), Objective(model)
    batch: tuple[Any, ...] = (inputs, labels)
    if part == "single":
        step = _single(model, optimizer, objective, inputs, labels)
    elif part == "net1":
        cut, batch = find_cut(model, options.cut), (inputs,)
        step = _net1(halves.make_first(cut, optimizer, _NoClock(), train, options), options, inputs)
    else:
        cut = find_cut(model, options.cut)
        with torch.no_grad():
            batch = (nn.Sequential(*(layer.module for layer in cut.halves[0]))(inputs), labels)
        step = _net2(halves.make_second(cut, optimizer, _NoClock(), train, options, objective), *batch)
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
    return peak_bytes(step, (*model.parameters(), *model.buffers(), *tensors))


class _NoClock:
    def mark(self, phase: str, stamp: Any = None) -> None:
        pass


def _single(model: nn.Module, optimizer: Optimizer, objective: Objective, inputs: Tensor, labels: Any) -> Step:
    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = objective.loss(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _net1(first: Net1, options: DualOptions, inputs: Tensor) -> Step:
    waiting: list[SentBatch] = []

    def step() -> None:
        sent = first.forward(inputs)
        if not first.answered:
            return
        waiting.append(sent)
        if len(waiting) > options.one_batch_late:
            first.learn(waiting.pop(0), _answer(first, options, sent.activation))

    return step


@torch.no_grad()
def _answer(first: Net1, options: DualOptions, activation: Tensor) -> Tensor:
    if isinstance(first, Matching):
        shown: Tensor = first.copy(activation)
        return shown
    return targets.encode(activation) if options.int8_targets else torch.empty_like(activation)


def _net2(second: Net2, activation: Tensor, labels: Any) -> Step:
    def step() -> None:
        second.take(range(len(activation)))
        answer = second.answer(activation, labels)
        second.learn(activation, labels)
        del answer

    return step


def survey(plan: nn.Module, train: TrainSpec, options: DualOptions, inputs: Any, labels: Any) -> dict[str, Any]:
    """Return the peak (bytes) of each of PARTS for a batch like this one and for twice as many samples.

    Between and beyond the two it grows evenly, once activations are larger than parameters.
    """
    size = len(next(leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)))
    found: dict[str, Any] = {"batches": [size, 2 * size]}
    for part in PARTS:
        shapes = [tree_map_only(Tensor, partial(_meta, times=times), (inputs, labels)) for times in (1, 2)]
        found[part] = [part_bytes(plan, part, train, options, *one) for one in shapes]
    return found


def _meta(tensor: Tensor, times: int) -> Tensor:
    return torch.empty((times * tensor.shape[0], *tensor.shape[1:]), dtype=tensor.dtype, device="meta")


def largest_batch(limit: int, peak: Callable[[int], int]) -> int:
    """Return the largest batch whose peak (bytes) lies within the limit; 0 when not even one sample does."""
    low, high = 0, 1
    while high <= _LARGEST and peak(high) <= limit:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if peak(middle) <= limit else (low, middle)
    return low


def main() -> None:
    """Print the largest batch of the single net and of each half, and what a batch of 50 takes, as CSV."""
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m hpcsynapse.trainer.dual.memory", description=about)
    parser.add_argument("--limit", required=True, help="memory: 256M, 16G")
    parser.add_argument("--model", default="dualnet", help="model name or package.module:attribute [dualnet]")
    parser.add_argument("--cut", help="layer behind which the network is cut [the model's own choice]")
    parser.add_argument("--shape", default="1,28,28", help="channels,height,width of a sample [1,28,28]")
    parser.add_argument("--classes", type=int, default=10, help="number of classes [10]")
    parser.add_argument("--optimizer", default="sgd", choices=("sgd", "adam", "adadelta", "rmsprop"))
    given = parser.parse_args()
    try:
        shape = tuple(int(word) for word in given.shape.split(","))
        train, options = TrainSpec(optimizer=given.optimizer), DualOptions(cut=given.cut)
        plan = blueprint(models.create(given.model, {}, shape, given.classes))
        limit = parse_mebibytes(given.limit) << 20
        rows = ["part,limit_bytes,batch_50_bytes,largest_batch"]
        for part in PARTS:

            def peak(batch: int, part: str = part) -> int:
                inputs = torch.empty(batch, *shape, device="meta")
                labels = torch.empty(batch, dtype=torch.int64, device="meta")
                return part_bytes(plan, part, train, options, inputs, labels)

            rows.append(f"{part},{limit},{peak(50)},{largest_batch(limit, peak)}")
        print("\n".join(rows))
    except (HpcSynapseError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
