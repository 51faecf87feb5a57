"""What the halves learn: as backpropagation with one step, more with several; nothing where nothing is answered."""

import dataclasses

import numpy as np
import pytest
import torch
from dual_pairs import BATCH, TRAIN, batches, exchange, network, pair, sides, together, whole
from torch import nn

from hpcsynapse.spec.optimizer import Span
from hpcsynapse.spec.training import DualOptions, TrainSpec
from hpcsynapse.trainer import data, models, optim
from hpcsynapse.trainer.data.base import MapDataset
from hpcsynapse.trainer.dual import state
from hpcsynapse.trainer.dual.statistics import verdict
from hpcsynapse.trainer.optim import Schedule

pytestmark = pytest.mark.slow  # networks that learn in many rounds

PLAIN = DualOptions()


def backpropagation(train: TrainSpec, count: int) -> dict[str, torch.Tensor]:
    """The parameters of the uncut network after so many ordinary steps."""
    model = network()
    optimizer = optim.make_optimizer(train, model.parameters())
    for inputs, labels in batches(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("beta", [0.1, 1.0, 37.0])
def test_one_step_at_both_sides_is_backpropagation(beta: float) -> None:
    """Whatever beta: same parameters as the uncut network's, with momentum and weight decay."""
    train = dataclasses.replace(TRAIN, weight_decay=0.01)
    first, second = pair(DualOptions(beta=beta), train)
    for inputs, labels in batches(10):
        exchange(first, second, inputs, labels)
    for name, value in backpropagation(train, 10).items():
        torch.testing.assert_close(whole(first, second)[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("options", "least"), [(PLAIN, 1 - 1e-6), (DualOptions(int8_targets=True), 0.999)])
def test_direction_of_the_first_update_is_that_of_backpropagation(options: DualOptions, least: float) -> None:
    train = TrainSpec(lr=1e-3, momentum=0.0)
    first, second = pair(options, train)
    exchange(first, second, *batches(1)[0])
    before, after = network().state_dict(), backpropagation(train, 1)
    names = list(first.network.state_dict())
    mine, other = (
        torch.cat([(state[name] - before[name]).flatten() for name in names])
        for state in (first.network.state_dict(), after)
    )
    assert float(nn.functional.cosine_similarity(mine, other, dim=0)) >= least


def test_several_local_steps_of_one_exchange_go_further() -> None:
    """The same number of exchanges, a lower loss at their end."""
    ends = {}
    for steps in (1, 3):
        rate = 1.0 if steps == 1 else 0.3
        options = DualOptions(target_steps=steps, target_rate=rate, net1_steps=steps, net2_steps=steps)
        first, second = pair(options, dataclasses.replace(TRAIN, lr=0.02))
        ends[steps] = [exchange(first, second, inputs, labels) for inputs, labels in batches(60)][-10:]
    assert sum(ends[3]) < 0.8 * sum(ends[1])


def test_frozen_net1_stays_and_net2_learns() -> None:
    first, second = pair(DualOptions(method="frozen"))
    before = whole(first, second)
    losses = [exchange(first, second, inputs, labels) for inputs, labels in batches(60)]
    after = whole(first, second)
    assert all(torch.equal(before[name], after[name]) for name in first.network.state_dict())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize(
    "options",
    [
        PLAIN,
        DualOptions(int8_targets=True),
        DualOptions(method="admm"),
        DualOptions(method="admm", target_steps=3, target_rate=0.3),
    ],
)
def test_methods_that_work_learn(options: DualOptions) -> None:
    first, second = pair(options)
    seen = batches(20)
    losses = [
        exchange(first, second, *seen[number % 20], range(number % 20 * BATCH, (number % 20 + 1) * BATCH))
        for number in range(120)
    ]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_answers_are_from_before_net2s_own_update() -> None:
    first, second = pair(PLAIN)
    inputs, labels = batches(1)[0]
    sent = first.forward(inputs)
    whole_loss = nn.functional.cross_entropy(network()(inputs), labels)
    loss, answer = second.answer(sent.activation.clone(), labels)
    assert float(loss) == pytest.approx(float(whole_loss.detach()))
    assert answer is not None and answer.shape == sent.activation.shape


def test_source_distance_compares_behind_the_next_layer() -> None:
    """The answer is what net2's first layer makes of the activation, before its update; the copy may begin equal."""
    for start in ("equal", "drawn"):
        first, second = pair(DualOptions(method="distance", copy_start=start))
        inputs, labels = batches(1)[0]
        sent = first.forward(inputs)
        _, answer = second.answer(sent.activation.clone(), labels)
        torch.testing.assert_close(answer, network().two(sent.activation))
        loss = float(first.learn(sent, answer))
        assert loss == pytest.approx(0, abs=1e-10) if start == "equal" else loss > 0.1
        drawn, original = sorted(first.copy[0].weight.flatten().tolist()), network().two.weight.flatten().tolist()
        if start == "equal":
            assert drawn == sorted(original)


@pytest.mark.parametrize("norm", ["none", "one", "both"])
def test_the_sources_distance_is_satisfied_by_nothing_at_all(norm: str) -> None:
    """On the real network and data the activation vanishes within an epoch, whatever the distance is divided by."""
    seen = data.load("cluttered-digits", None, {})
    train = TrainSpec(lr=0.02, momentum=0.9, batch=50)

    def make() -> nn.Module:
        torch.manual_seed(0)
        return models.create("dualnet", {}, seen.shape, seen.classes)

    first, second = pair(DualOptions(method="distance", norm=norm), train, make)
    norms = []
    for number in range(40):
        inputs, labels = seen.train.batch(np.arange(number * 50, number * 50 + 50))
        norms.append(float(first.forward(inputs).activation.norm()))
        exchange(first, second, inputs, labels)
    assert verdict(norms[0], norms[-1], 0.0) == "collapsed"


class Samples:
    def __init__(self) -> None:
        self.items = [item for inputs, labels in batches(3, seed=5) for item in zip(inputs, labels, strict=True)][:20]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        return self.items[index]


def train_sides(front, back, seen) -> None:
    def run(side):
        for inputs, labels in seen:
            side.step(inputs, labels)

    together(lambda: run(front), lambda: run(back))


def test_validation_of_both_halves_is_that_of_the_whole(tmp_path) -> None:
    options = DualOptions(one_batch_late=True)
    front, back = sides(tmp_path, options)
    train_sides(front, back, batches(3))
    samples = MapDataset(Samples())
    found = together(*(lambda side=side: side.evaluate(samples, BATCH, lambda: False) for side in (front, back)))
    assert found[0] == found[1]
    model = network()
    model.load_state_dict(whole(front.half, back.half))
    inputs, labels = samples.batch(torch.arange(20).numpy())
    with torch.no_grad():
        output = model(inputs)
    assert found[0].metrics["loss"] == pytest.approx(float(nn.functional.cross_entropy(output, labels)))
    assert found[0].metrics["accuracy"] == pytest.approx(float((output.argmax(dim=1) == labels).float().mean()))
    assert found[0].counts is not None
    assert found[0].counts.total == 20


def test_one_batch_late_learns_all_answers_but_one_late(tmp_path) -> None:
    """After n steps net1 has made n - 1 updates, and the last one when it is settled."""
    front, back = sides(tmp_path, DualOptions(one_batch_late=True))
    before = whole(front.half, back.half)
    train_sides(front, back, batches(1))
    first = list(front.half.network.state_dict())
    assert all(torch.equal(before[name], front.half.network.state_dict()[name]) for name in first)
    assert front.open and back.open
    together(front.settle, back.settle)
    assert not any(torch.equal(before[name], front.half.network.state_dict()[name]) for name in first)
    assert not front.open and not back.open
    expected = backpropagation(TRAIN, 1)  # nothing was late for it
    for name in first:
        torch.testing.assert_close(front.half.network.state_dict()[name], expected[name])


def copy_state(front, back, new_front, new_back) -> None:
    """Carry everything over as a checkpoint does: one whole model and optimizer, and what lies outside of them."""
    extra = front.extra_state()
    optimizers = [side.half.optimizer.state_dict() for side in (front, back)]
    joined, rest = state.join(*optimizers)
    kept = {"optimizer": joined, "copy": rest, "extra": extra, "second": back.half.extra_state()}
    content = state.unpack(state.pack(kept))
    model = whole(front.half, back.half)
    for rank, side in enumerate((new_front, new_back)):
        side.half.network.load_state_dict({name: model[name] for name in side.half.network.state_dict()})
        copied = content["copy"] if rank == 0 else {}
        side.half.optimizer.load_state_dict(state.part(content["optimizer"], side.half.optimizer, rank, copied))
    new_front.load_extra_state(content["extra"])
    new_back.half.load_extra_state(content["second"])


@pytest.mark.parametrize(
    "options",
    [
        PLAIN,
        DualOptions(one_batch_late=True, int8_targets=True),
        DualOptions(method="distance", norm="both"),
        DualOptions(method="admm", target_steps=2, target_rate=0.5),
        DualOptions(method="frozen"),
    ],
    ids=lambda options: options.label(),
)
def test_a_resumed_pair_goes_on_as_if_never_stopped(tmp_path, options: DualOptions) -> None:
    seen = batches(12)
    for side in (straight := sides(tmp_path / "one", options)):
        side.take(range(BATCH))
    train_sides(*straight, seen)
    stopped = sides(tmp_path / "two", options)
    for side in stopped:
        side.take(range(BATCH))
    train_sides(*stopped, seen[:5])
    resumed = sides(tmp_path / "three", options, attempt="1")
    for side in resumed:
        side.take(range(BATCH))
    copy_state(*stopped, *resumed)
    train_sides(*resumed, seen[5:])
    for each in (straight, resumed):
        together(each[0].settle, each[1].settle)
    expected, found = (whole(front.half, back.half) for front, back in (straight, resumed))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_joined_optimizer_is_that_of_the_whole_model() -> None:
    """A checkpoint of two halves can be gone on from by a run of the uncut network, and the other way round."""
    first, second = pair(PLAIN)
    for inputs, labels in batches(4):
        exchange(first, second, inputs, labels)
    joined, rest = state.join(first.optimizer.state_dict(), second.optimizer.state_dict())
    assert rest == {}
    model = network()
    optimizer = optim.make_optimizer(TRAIN, model.parameters())
    optimizer.load_state_dict(joined)
    model.load_state_dict(whole(first, second))
    buffers = [optimizer.state[parameter]["momentum_buffer"].shape for parameter in model.parameters()]
    assert buffers == [parameter.shape for parameter in model.parameters()]
    for half, side in enumerate((first, second)):
        back = state.part(optimizer.state_dict(), side.optimizer, half, {})
        side.optimizer.load_state_dict(back)
    with pytest.raises(ValueError, match="fewer than"):
        other = optim.make_optimizer(TRAIN, nn.Linear(2, 2, bias=False).parameters())
        state.part(other.state_dict(), second.optimizer, 1, {})


@pytest.mark.parametrize("method", ["proximal", "distance"])
def test_net1_has_a_rate_of_its_own_on_the_schedule_of_the_run(method: str) -> None:
    """A tenth of it, for its copy of net2's first layers too; a checkpoint of the whole says nothing of it."""
    train = TrainSpec(lr=0.5, milestones=(10,))
    first, second = pair(DualOptions(method=method, net1_lr=0.05), train)
    schedule = Schedule(train, 1, Span(10, 100, 4))
    for step, factor in ((0, 1.0), (10, 0.1)):
        for half, rate in ((first, 0.05), (second, 0.5)):
            schedule.apply(half.optimizer, step)
            assert [group["lr"] for group in half.optimizer.param_groups] == pytest.approx(
                [rate * factor] * len(half.optimizer.param_groups)
            )
    whole, _ = state.join(first.optimizer.state_dict(), second.optimizer.state_dict())
    assert "lr_factor" not in whole["param_groups"][0]
    assert state.part(whole, first.optimizer, 0, {})["param_groups"][0]["lr_factor"] == pytest.approx(0.1)
    assert "lr_factor" not in state.part(whole, second.optimizer, 1, {})["param_groups"][0]


def test_beta_grows_with_epochs_and_steps_on_both_sides(tmp_path) -> None:
    options = DualOptions(method="admm", beta=0.5, beta_growth=10.0, beta_step_growth=2.0)
    for side in sides(tmp_path, options):
        assert side.half.beta == 0.5
        side.set_beta(0, 3)
        assert side.half.beta == pytest.approx(0.5 * 8)
        side.set_beta(2, 5)
        assert side.half.beta == pytest.approx(0.5 * 100 * 32)
        side.set_beta(10**6, 10**9)
        assert side.half.beta == 1e12
    for side in sides(tmp_path, DualOptions(method="admm", beta=0.3)):
        side.set_beta(7, 10**6)
        assert side.half.beta == 0.3
