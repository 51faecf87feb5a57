"""What is seen of a program becomes steps: begins, ends, phases, samples, losses and pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hpcsynapse.recording.batches import Loader, size_of, steps_per_epoch
from hpcsynapse.recording.steps import Step, Steps
from hpcsynapse.recording.writer import phases_of


class Watched:
    """Steps under a clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.written: list[Step] = []
        self.pauses: list[str] = []
        self.steps = Steps(self.written.append, lambda cause, _begin, _seconds: self.pauses.append(cause))
        self.steps.stamp = lambda: self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def take(self, loader: Loader, size: int = 4, wait: float = 1.0) -> None:
        if self.steps.asked(loader):
            self.wait(wait)
            self.steps.given(loader, [[0] * size])

    def learn(self, forward: float = 2.0, backward: float = 3.0, loss: float = 1.0) -> None:
        self.wait(forward)
        self.steps.backward_begins(loss)
        self.wait(backward)
        self.steps.backward_ends()

    def update(self, optimizer: int = 1, seconds: float = 4.0) -> None:
        self.steps.update_begins()
        self.wait(seconds)
        self.steps.update_ends(optimizer)

    @property
    def samples(self) -> list[int]:
        return [step.samples for step in self.written]


class Source:
    """Stands for a DataLoader that tells nothing of its plan."""


def source() -> Loader:
    thing = Source()
    loader = Loader(thing)
    loader.begin()
    return loader


def spent(step: Step) -> dict[str, float]:
    found = phases_of(step.begin, step.marks, lambda first, second: second - first)
    return {phase: seconds for phase, seconds in found.items() if seconds}


def test_a_step_is_from_the_question_for_its_batch_to_the_end_of_its_update() -> None:
    seen, loader = Watched(), source()
    for _ in range(3):
        seen.take(loader)
        seen.learn()
        seen.update()
        seen.wait(10.0)  # logging
    seen.steps.finish()
    assert [step.end - step.begin for step in seen.written] == [10.0, 10.0, 10.0]
    assert [second.begin - first.end for first, second in zip(seen.written, seen.written[1:], strict=False)] == [10, 10]
    assert spent(seen.written[1]) == {"data": 1.0, "forward": 2.0, "backward": 3.0, "update": 4.0}
    assert seen.samples == [4, 4, 4]


def test_accumulation_is_one_step_of_all_its_batches() -> None:
    seen, loader = Watched(), source()
    for _ in range(2):
        for part in range(3):
            seen.take(loader)
            seen.learn(loss=float(part))
        seen.update()
    seen.steps.finish()
    assert seen.samples == [12, 12]
    assert seen.written[0].loss == 1.0
    assert spent(seen.written[1])["backward"] == 9.0


def test_a_loss_that_is_a_share_is_added_up() -> None:
    seen, loader = Watched(), source()
    for _ in range(2):
        seen.take(loader)
        seen.steps.backward_begins(0.5, divided=True)
        seen.steps.backward_ends()
    seen.update()
    seen.steps.finish()
    assert seen.written[0].loss == 1.0


def test_a_batch_taken_ahead_belongs_to_the_step_that_uses_it() -> None:
    seen, loader = Watched(), source()
    seen.take(loader, 1)
    for size in (2, 3, 4, 5):
        seen.take(loader, size)
        seen.learn()
        seen.update()
    seen.learn()
    seen.update()
    seen.steps.finish()
    assert seen.samples == [1, 2, 3, 4, 5]


def test_batches_of_one_backward_pass_are_all_counted_from_the_second_step_on() -> None:
    seen, loader = Watched(), source()
    for _ in range(4):
        for _ in range(3):
            seen.take(loader)
        seen.learn()
        seen.update()
    seen.steps.finish()
    assert seen.samples[1:] == [12, 12, 12]


def test_several_optimizers_on_one_batch_are_one_step() -> None:
    seen, loader = Watched(), source()
    for _ in range(3):
        seen.take(loader)
        for optimizer in (1, 2):
            seen.learn()
            seen.update(optimizer)
    seen.steps.finish()
    assert seen.samples == [4, 4, 4]
    assert [step.end - step.begin for step in seen.written] == [19.0] * 3


def test_without_a_loader_a_step_begins_where_the_one_before_ended() -> None:
    seen = Watched()
    for _ in range(4):
        seen.steps.fed(7)
        seen.learn()
        seen.update()
        seen.wait(1.0)
    seen.steps.finish()
    assert seen.samples == [7, 7, 7, 7]
    assert [step.end - step.begin for step in seen.written[1:]] == [10.0] * 3


def test_an_optimizer_within_another_is_a_part_of_it() -> None:
    seen, loader = Watched(), source()
    for _ in range(2):
        seen.take(loader)
        seen.learn()
        seen.steps.update_begins()  # Horovod's, which waits and then calls the one below
        seen.steps.exchange_begins()
        seen.wait(5.0)
        seen.steps.exchange_ends()
        seen.update(2)
        seen.steps.update_ends(1)
    seen.steps.finish()
    assert spent(seen.written[1]) == {"data": 1.0, "forward": 2.0, "backward": 3.0, "communicate": 5.0, "update": 4.0}


def test_an_update_of_zeros_before_the_training_is_no_step() -> None:
    seen, loader = Watched(), source()
    seen.update()
    seen.take(loader)
    seen.learn()
    seen.update()
    seen.steps.finish()
    assert seen.samples == [4]


def test_an_update_that_raises_is_no_step() -> None:
    seen, loader = Watched(), source()
    seen.take(loader)
    seen.learn()
    seen.steps.update_begins()
    seen.steps.update_failed()
    seen.learn()
    seen.update()
    seen.steps.finish()
    assert len(seen.written) == 1


def test_a_closure_within_the_update_is_forward_and_backward() -> None:
    seen, loader = Watched(), source()
    seen.take(loader)
    seen.steps.update_begins()
    seen.learn()
    seen.wait(4.0)
    seen.steps.update_ends(1)
    seen.steps.finish()
    assert spent(seen.written[0]) == {"data": 1.0, "forward": 2.0, "backward": 3.0, "update": 4.0}


def test_after_the_last_gradient_a_backward_pass_waits_for_others() -> None:
    seen, loader = Watched(), source()
    seen.take(loader)
    seen.steps.backward_begins()
    seen.wait(3.0)
    seen.steps.gradient()
    seen.wait(6.0)
    seen.steps.backward_ends()
    seen.update()
    seen.steps.finish()
    assert spent(seen.written[0]) == {"data": 1.0, "backward": 3.0, "communicate": 6.0, "update": 4.0}


def test_evaluation_and_saving_between_steps_are_pauses_and_their_batches_no_samples() -> None:
    seen, loader, other = Watched(), source(), source()
    for _ in range(2):
        seen.take(loader)
        seen.learn()
        seen.update()
        assert seen.steps.begin_pause("validation")
        for _ in range(5):
            seen.take(other, 100)
        assert seen.steps.begin_pause("checkpoint")
        seen.steps.end_pause()
    seen.steps.finish()
    assert seen.samples == [4, 4]
    assert seen.pauses == ["validation", "checkpoint"] * 2


def test_within_a_step_nothing_is_a_pause() -> None:
    seen, loader = Watched(), source()
    seen.take(loader)
    seen.learn()
    seen.update()
    seen.take(loader)
    assert not seen.steps.begin_pause("checkpoint")


def test_every_iteration_that_feeds_the_training_is_an_epoch() -> None:
    seen = Watched()
    for _ in range(3):
        loader = source()  # programs make a new one for each, or iterate over one again
        for _ in range(2):
            seen.take(loader)
            seen.learn()
            seen.update()
    seen.steps.finish()
    assert [step.epoch for step in seen.written] == [0, 0, 1, 1, 2, 2]


class Shaped:
    def __init__(self, *shape: int) -> None:
        self.shape = shape


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (Shaped(3, 8), 3),
        ([Shaped(5, 8), Shaped(5)], 5),
        ({"input_ids": Shaped(6, 512), "labels": Shaped(6)}, 6),
        (((Shaped(3, 32, 32), Shaped(3, 20, 20)), ({}, {})), 2),
        (([1, 2, 3, 4], None), 4),
        (Shaped(), 1),
        ("text", 0),
        (None, 0),
        ({}, 0),
    ],
)
def test_the_size_of_a_batch(batch: Any, size: int) -> None:
    assert size_of(batch) == size


def planned(samples: int, size: int, drop_last: bool = False) -> Any:
    class Planned:
        batch_size, sampler = size, range(samples)

    Planned.drop_last = drop_last  # type: ignore[attr-defined]
    return Planned()


@pytest.mark.parametrize(("drop_last", "length"), [(False, 3), (True, 2)])
def test_the_loader_s_plan_comes_before_what_a_batch_looks_like(drop_last: bool, length: int) -> None:
    thing = planned(10, 4, drop_last)
    loader = Loader(thing)
    loader.begin()
    for _ in range(3):
        loader.give(object())
    assert (list(loader.waiting), loader.length) == ([4, 4, 2], length)


@pytest.mark.parametrize(("samples", "steps"), [(16, 21), (32, 11), (48, 7), (0, 21)])
def test_steps_of_an_epoch_follow_from_the_loader_and_the_first_step(samples: int, steps: int) -> None:
    thing = planned(330, 16)
    assert steps_per_epoch(Loader(thing), samples) == steps


@pytest.mark.parametrize("fault", [ValueError, RuntimeError])
def test_a_fault_is_told_once_and_ends_the_recording(fault: type[Exception]) -> None:
    from hpcsynapse.recording.guard import Guard

    told: list[str] = []
    guard = Guard(told.append)

    def fail() -> None:
        raise fault("something")

    calls: list[Callable[[], Any]] = [fail, fail, lambda: 1]
    assert [guard.call(call) for call in calls] == [None, None, None]
    assert len(told) == 1
    assert "something" in told[0]
    assert not guard.on
