"""What a model computes in, and what it keeps: the same training by other means."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpcsynapse.errors import SpecError, TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import ExchangeOptions, TrainSpec
from hpcsynapse.timing import StepRecorder
from hpcsynapse.trainer import models, optim, precision, strategies
from hpcsynapse.trainer.clock import StepClock
from hpcsynapse.trainer.engines.alone import AloneEngine
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.recompute import blocks
from hpcsynapse.trainer.strategies.base import Strategy

CPU = torch.device("cpu")
IDENTITY = RankIdentity(rank=0, world_size=1)
Begin = Callable[..., Strategy]


class Dropped(nn.Module):
    """A block that draws random numbers and counts what it has seen."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = images + self.layers(images)
        return result


def small(dropout: float = 0.0) -> nn.Module:
    """Return a model with two blocks; what dropout draws depends on layout and number format."""
    torch.manual_seed(1)
    two = nn.Sequential(Dropped(dropout), Dropped(dropout))
    return nn.Sequential(nn.Conv2d(1, 4, 3), two, nn.Flatten(), nn.Linear(4 * 36, 3))


def batch(step: int) -> tuple[Tensor, Tensor]:
    numbers = torch.Generator().manual_seed(step)
    return torch.randn(6, 1, 8, 8, generator=numbers), torch.randint(3, (6,), generator=numbers)


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Return what makes a strategy `single` over a model with the settings given."""

    def make(model: nn.Module, **settings: Any) -> Strategy:
        train = TrainSpec(strategy="single", lr=0.05, batch=6, **settings)
        engine = AloneEngine(IDENTITY, CPU, 10, 10)
        spec = JobSpec(train=train, queue=QueueOptions(scheduler="local"))
        strategy = strategies.strategy_class("single")(engine, spec, IDENTITY)
        precision.configure(train, CPU)
        model = precision.apply(model, train, CPU)
        clock = StepClock(StepRecorder(tmp_path / "timings", rank=0, warmup=0))
        strategy.prepare(model, optim.make_optimizer(train, model.parameters()), Objective(model), clock, None)
        return strategy

    return make


def trained(strategy: Strategy, steps: int = 4) -> dict[str, Tensor]:
    """Return what a model holds after some steps, each with random numbers of its own."""
    for step in range(steps):
        torch.manual_seed(step)
        strategy.step(*batch(step))
    return copy.deepcopy(strategy.model.state_dict())


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def kept(model: nn.Module) -> int:
    """Return how many numbers autograd keeps for the backward of a batch."""
    found = []

    def pack(tensor: Tensor) -> Tensor:
        found.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(batch(0)[0])
    return sum(found)


def test_what_is_computed_again_is_the_same_to_the_last_bit(begin: Begin) -> None:
    """Parameters, running statistics and their counts, though dropout is drawn twice; and less is kept."""
    plain, again = begin(small(0.3)), begin(small(0.3), recompute=True)
    assert apart(trained(plain), trained(again)) == 0
    assert kept(again.model) < 0.5 * kept(plain.model)


@pytest.mark.parametrize(("name", "expected"), [("resnet50", 16), ("resnet56", 27), ("resnet83", 27)])
def test_blocks_of_the_models(name: str, expected: int) -> None:
    assert len(list(blocks(models.create(name, {}, (3, 32, 32), 10)))) == expected


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(TrainError, match="AlexNet has no blocks"):
        precision.apply(models.create("alexnet", {}, (3, 32, 32), 10), TrainSpec(recompute=True), CPU)


def test_bf16_computes_in_16_bits_and_keeps_parameters_and_outputs_in_32(begin: Begin) -> None:
    plain, half = begin(small()), begin(small(), precision="bf16")
    inside = []
    half.model[1].register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    assert 1e-5 < apart(trained(plain), trained(half)) < 0.05
    assert set(inside) == {torch.bfloat16}
    assert {value.dtype for value in half.model.parameters()} == {torch.float32}
    assert half.model.eval()(batch(0)[0]).dtype == torch.float32


def test_outputs_of_any_form_come_back_in_32_bits() -> None:
    class Several(nn.Linear):
        def forward(self, inputs: Tensor) -> dict[str, Any]:
            return {"found": [super().forward(inputs)], "name": "x"}

    output = precision.apply(Several(4, 2), TrainSpec(precision="bf16"), CPU)(torch.ones(1, 4))
    assert output["found"][0].dtype == torch.float32 and output["name"] == "x"


def test_fp16_goes_on_with_a_smaller_scale_where_gradients_overflow(begin: Begin) -> None:
    strategy = begin(small(), precision="fp16")
    before = copy.deepcopy(strategy.model.state_dict())
    scale = strategy.scaler.get_scale()
    strategy.step(batch(0)[0] * 1e5, batch(0)[1])
    after = strategy.model.state_dict()
    for name, _ in strategy.model.named_parameters():
        assert torch.equal(before[name], after[name])
    assert strategy.extra_state()["scaler"]["scale"] == scale / 2


def test_channels_last(begin: Begin) -> None:
    seen = []
    plain, last = begin(small()), begin(small(), channels_last=True)
    last.model[1].register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    assert apart(trained(plain), trained(last)) < 1e-4
    assert seen == [True] * 4


@pytest.mark.slow
def test_a_compiled_model_has_the_names_and_results_of_the_other(begin: Begin) -> None:
    without = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    compiled = begin(copy.deepcopy(without), compile=True)
    assert apart(trained(begin(without)), trained(compiled)) < 1e-5
    assert compiled.model._compiled_call_impl is not None


def test_a_device_that_cannot() -> None:
    with pytest.raises(TrainError, match="'tf32': the CPU does not compute in it"):
        precision.configure(TrainSpec(precision="tf32"), CPU)


def test_fp32_is_fp32() -> None:
    """Where torch would compute convolutions in fewer digits unasked."""
    precision.configure(TrainSpec(), CPU)
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("train", "more", "words"),
    [
        ({"precision": "tf32"}, {}, ["tf32", "CPU", "bf16"]),
        ({"precision": "fp16", "strategy": "central"}, {}, ["fp16", "central", "bf16"]),
        ({"precision": "fp16", "strategy": "ps-async"}, {}, ["fp16", "ps-async"]),
        ({"precision": "fp16", "strategy": "local-sgd"}, {}, ["fp16", "local-sgd"]),
        (
            {"precision": "fp16", "strategy": "allreduce"},
            {"exchange": ExchangeOptions(compression="fp16")},
            ["exchange.compression", "overflow"],
        ),
        ({"accumulate": 2, "strategy": "admm"}, {}, ["train.accumulate", "admm"]),
        ({"precision": "bf16", "strategy": "admm"}, {}, ["train.precision", "admm"]),
        ({"compile": True, "recompute": True}, {}, ["train.recompute", "train.compile"]),
        ({"precision": "fp8"}, {}, ["train.precision", "bf16"]),
        ({"accumulate": 0}, {}, ["train.accumulate"]),
    ],
)
def test_what_does_not_go_together(train: dict[str, Any], more: dict[str, Any], words: list[str]) -> None:
    resources = ResourceRequest(ranks_per_node=2)
    with pytest.raises(SpecError) as caught:
        JobSpec(resources=resources, train=TrainSpec(**{"strategy": "allreduce", **train}), **more)
    assert all(word in str(caught.value) for word in words), caught.value


def test_tf32_where_gpus_are_asked_for() -> None:
    JobSpec(resources=ResourceRequest(gpus=1), train=TrainSpec(precision="tf32"))
