"""Optimizers and learning rates."""

import math
from typing import Any

import pytest
import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.optimizer import Span
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.optim import Schedule, make_optimizer

SPAN = Span(steps_per_epoch=10, total=100, global_batch=64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adadelta", "rmsprop", "lamb", "lars"])
def test_every_optimizer_makes_progress(name: str) -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = make_optimizer(TrainSpec(optimizer=name, lr=0.1, momentum=0.5), [weight])
    for _ in range(20):
        optimizer.zero_grad()
        (weight**2).backward()
        optimizer.step()
    assert abs(weight.item()) < 3.0


def test_settings_arrive() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    group = make_optimizer(TrainSpec(nesterov=True, momentum=0.8, weight_decay=1e-4, lr=0.3), [weight]).param_groups[0]
    assert (group["nesterov"], group["momentum"], group["weight_decay"], group["lr"]) == (True, 0.8, 1e-4, 0.3)


def test_nothing_to_train() -> None:
    with pytest.raises(TrainError, match="no parameter"):
        make_optimizer(TrainSpec(), [torch.nn.Parameter(torch.ones(1), requires_grad=False)])


def test_milestones() -> None:
    schedule = Schedule(TrainSpec(lr=0.1, milestones=(10, 20)), 1, SPAN)
    assert [schedule.rate(step) for step in (0, 9, 10, 19, 20)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_warmup_from_zero() -> None:
    schedule = Schedule(TrainSpec(lr=0.4, warmup_steps=4), 8, SPAN)
    assert [schedule.rate(step) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_linear_scaling_rises_from_the_rate_of_one_rank() -> None:
    schedule = Schedule(TrainSpec(lr=0.1, warmup_steps=7, lr_scaling="linear"), 8, SPAN)
    assert [schedule.rate(step) for step in (0, 6, 7)] == pytest.approx([0.2, 0.8, 0.8])
    assert Schedule(TrainSpec(lr=0.1, lr_scaling="linear"), 8, SPAN).rate(0) == pytest.approx(0.8)


def rates(span: Span, steps: list[int], ranks: int = 1, **settings: Any) -> list[float]:
    schedule = Schedule(TrainSpec(lr=1.0, **settings), ranks, span)
    return [schedule.rate(step) for step in steps]


def test_milestones_in_epochs_and_samples() -> None:
    """10 steps an epoch, 64 samples a step: 2.5e is step 25, 2560 samples are step 40."""
    found = rates(SPAN, [24, 25, 39, 40, 50], milestones=("2.5e", "2560samples", 50))
    assert found == pytest.approx([1, 0.1, 0.1, 0.01, 0.001])


def test_steps_of_asynchronous_workers_are_counted_over_all_of_them() -> None:
    """4 workers make 40 updates while each makes 10 steps; an epoch is 10 steps of each."""
    span = Span(steps_per_epoch=10, total=100, global_batch=64, workers=4)
    assert rates(span, [9, 10], milestones=(40,)) == pytest.approx([1, 0.1])
    assert rates(span, [19, 20], milestones=("2e",)) == pytest.approx([1, 0.1])
    assert rates(span, [39, 40], milestones=("2560samples",)) == pytest.approx([1, 0.1])
    assert rates(span, [0, 1, 2], warmup_steps=8) == pytest.approx([1 / 8, 5 / 8, 1])
    assert span.beyond((399, 400, "9e", "10e", "6400samples")) == [400, "10e", "6400samples"]


@pytest.mark.parametrize(("decay", "expected"), [("linear", [1.0, 0.55, 0.1]), ("cosine", [1.0, 0.55, 0.1])])
def test_decay_to_the_end_of_the_run(decay: str, expected: list[float]) -> None:
    assert rates(SPAN, [0, 50, 100], lr_decay=decay, lr_end=0.1) == pytest.approx(expected)
    quarter = {"linear": 0.775, "cosine": 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2}[decay]
    assert rates(SPAN, [25], lr_decay=decay, lr_end=0.1) == pytest.approx([quarter])
    warm = rates(SPAN, [0, 9, 19, 20, 60, 100, 120], lr_decay=decay, warmup_epochs=2.0)
    assert warm == pytest.approx([1 / 20, 0.5, 1, 1, 0.5, 0, 0])


def test_norms_and_biases_without_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 2))
    groups = make_optimizer(TrainSpec(weight_decay=0.1, decay_norms=False), model.parameters()).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 2), (0.0, 4)]
    assert len(make_optimizer(TrainSpec(weight_decay=0.1), model.parameters()).param_groups) == 1


def test_lars_is_the_published_rule() -> None:
    """w 3, 4 and gradient 0, 2 of one layer: rate 0.5 x 0.001 x 5 / (2 + 0.1 x 5); then momentum."""
    weight, bias = torch.nn.Parameter(torch.tensor([[3.0, 4.0]])), torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer(TrainSpec(optimizer="lars", lr=0.5, momentum=0.9, weight_decay=0.1), [weight, bias])
    weight.grad, bias.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([1.0])
    optimizer.step()
    scale = 0.5 * 0.001 * 5 / (2 + 0.1 * 5)
    first = torch.tensor([[0.3 * scale, 2.4 * scale]])
    torch.testing.assert_close(weight.data, torch.tensor([[3.0, 4.0]]) - first)
    assert bias.item() == pytest.approx(2 - 0.5 * (1 + 0.2))
    before = weight.data.clone()
    weight.grad, bias.grad = torch.zeros(1, 2), torch.zeros(1)
    optimizer.step()
    torch.testing.assert_close(weight.data, before - 0.9 * first - 0.5 * 0.1 * before)  # no gradient: the plain rate


def test_lamb_is_the_published_rule() -> None:
    """In the first step Adam's update is the sign of the gradient, here with decay; scaled to the layer's norm, 5."""
    weight, bias = torch.nn.Parameter(torch.tensor([[3.0, 4.0]])), torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer(TrainSpec(optimizer="lamb", lr=0.1, weight_decay=0.1), [weight, bias])
    weight.grad, bias.grad = torch.tensor([[-7.0, 0.5]]), torch.tensor([0.01])
    optimizer.step()
    way = torch.tensor([[-1 + 0.3, 1 + 0.4]])
    torch.testing.assert_close(weight.data, torch.tensor([[3.0, 4.0]]) - 0.1 * 5 * way / way.norm(), rtol=1e-4, atol=0)
    assert bias.item() == pytest.approx(2 - 0.1 * (1 + 0.2), rel=1e-4)
