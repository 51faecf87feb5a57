"""Any sequential network can be cut: nothing is lost, and what cannot be cut is said."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import models
from hpcsynapse.trainer.dual.cut import find_cut


def nested() -> nn.Sequential:
    torch.manual_seed(3)
    front = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 4))
    return nn.Sequential(OrderedDict(front=front, act=nn.ReLU(inplace=True), head=nn.Sequential(nn.Linear(4, 3))))


def halves(make, place):
    return [find_cut(make(), place).keep(half) for half in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["front.0", "front.1", "front.2", "front", "act"])
def test_both_halves_in_a_row_are_the_whole(place: str) -> None:
    whole = nested()
    first, second = halves(nested, place)
    inputs = torch.randn(7, 6)
    torch.testing.assert_close(second(first(inputs.clone())), whole(inputs.clone()), rtol=0, atol=0)
    states = {**first.state_dict(), **second.state_dict()}
    assert list(states) == list(whole.state_dict())
    assert not set(first.state_dict()) & set(second.state_dict())


@pytest.mark.parametrize("place", ["conv1", "pool1", "conv2", "pool2", "pool3", "flatten", "fc1"])
def test_dualnet_can_be_cut_anywhere(place: str) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return models.create("dualnet", {}, (1, 16, 16), 10)

    first, second = halves(make, place)
    inputs = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(second(first(inputs)), make()(inputs), rtol=0, atol=0)


def test_the_models_own_choice() -> None:
    cut = find_cut(models.create("dualnet", {}), None)
    assert cut.place == "pool2"
    assert [layer.name for layer in cut.halves[1]][:2] == ["conv3", "relu3"]
    assert [type(layer) for layer in cut.bridge()] == [nn.Conv2d]


def test_bridge_reaches_to_the_first_parameters() -> None:
    cut = find_cut(nested(), "front.0")
    assert [type(layer) for layer in cut.bridge()] == [nn.ReLU, nn.Linear]


def test_the_other_half_is_let_go_of() -> None:
    model = nested()
    find_cut(model, "act").keep(0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 6 * 5 + 5 + 5 * 4 + 4


def test_what_was_sent_is_not_overwritten() -> None:
    """A ReLU that works in place, at the beginning of net2, would change the activation that it answers."""
    second = find_cut(nested(), "front").keep(1)
    activation = torch.tensor([[-1.0, 2.0, -3.0, 4.0]], requires_grad=True)
    second(activation).sum().backward()
    assert activation.tolist() == [[-1.0, 2.0, -3.0, 4.0]]
    assert activation.grad is not None


class Branching(nn.Sequential):
    def forward(self, inputs):
        return inputs + super().forward(inputs)


def tied() -> nn.Sequential:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    ("model", "place", "words"),
    [
        (nested(), "fron", ["no layer 'fron'", "did you mean", "front.0, front.1, front.2, act, head.0"]),
        (nested(), None, ["--cut", "front.0"]),
        (nested(), "head", ["net2 has no parameter to train"]),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "0", ["net1 has no parameter to train"]),
        (nn.Linear(2, 2), None, ["only a torch.nn.Sequential", "Linear", "dualnet"]),
        (Branching(nn.Linear(4, 4), nn.Linear(4, 4)), "0", ["only a torch.nn.Sequential", "Branching"]),
        (tied(), "1", ["share parameters"]),
    ],
)
def test_what_cannot_be_cut(model: nn.Module, place: str | None, words: list[str]) -> None:
    with pytest.raises(TrainError) as error:
        find_cut(model, place)
    assert all(word in str(error.value) for word in words), error.value
