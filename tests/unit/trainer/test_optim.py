"""Optimizers and learning rates."""

import pytest
import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.optim import Schedule, make_optimizer


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adam", "adadelta", "rmsprop"])
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
    schedule = Schedule(TrainSpec(lr=0.1, milestones=(10, 20)), 1)
    assert [schedule.rate(step) for step in (0, 9, 10, 19, 20)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_warmup_from_zero() -> None:
    schedule = Schedule(TrainSpec(lr=0.4, warmup_steps=4), 8)
    assert [schedule.rate(step) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_linear_scaling_rises_from_the_rate_of_one_rank() -> None:
    schedule = Schedule(TrainSpec(lr=0.1, warmup_steps=7, lr_scaling="linear"), 8)
    assert [schedule.rate(step) for step in (0, 6, 7)] == pytest.approx([0.2, 0.8, 0.8])
    assert Schedule(TrainSpec(lr=0.1, lr_scaling="linear"), 8).rate(0) == pytest.approx(0.8)
