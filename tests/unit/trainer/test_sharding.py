"""Sharding: who takes which sample, and that nothing is taken twice."""

import hashlib
import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.sharding import Shards, chunk


def test_chunks() -> None:
    assert [len(chunk(145, rank, 4)) for rank in range(4)] == [36, 36, 36, 37]
    assert [number for rank in range(4) for number in chunk(145, rank, 4)] == list(range(145))
    assert [len(chunk(2, rank, 4)) for rank in range(4)] == [0, 0, 0, 2]


@pytest.mark.parametrize("ranks", [1, 2, 4, 7])
def test_strided_steps_are_those_of_one_rank(ranks: int) -> None:
    single = Shards(1000, 8 * ranks, rank=0, ranks=1, seed=3)
    many = [Shards(1000, 8, rank=rank, ranks=ranks, seed=3) for rank in range(ranks)]
    assert {shards.steps for shards in many} == {single.steps}
    for epoch in (0, 1):
        for step in range(single.steps):
            together = np.concatenate([shards.indices(epoch, step) for shards in many])
            assert sorted(together) == sorted(single.indices(epoch, step))
            assert all(len(shards.indices(epoch, step)) == 8 for shards in many)


def test_epochs_differ_and_repeat() -> None:
    shards = Shards(100, 10, rank=0, ranks=1, seed=0)
    first = [shards.indices(0, step).copy() for step in range(10)]
    assert sorted(np.concatenate(first)) == list(range(100))
    assert not np.array_equal(first[0], shards.indices(1, 0))
    assert np.array_equal(first[4], Shards(100, 10, rank=0, ranks=1, seed=0).indices(0, 4))
    assert not np.array_equal(first[0], Shards(100, 10, rank=0, ranks=1, seed=1).indices(0, 0))


def test_contiguous_stays_in_its_chunk() -> None:
    many = [Shards(145, 5, rank=rank, ranks=4, seed=0, mode="contiguous") for rank in range(4)]
    assert [shards.steps for shards in many] == [7] * 4
    for rank, shards in enumerate(many):
        for epoch in range(3):
            taken = np.concatenate([shards.indices(epoch, step) for step in range(7)])
            assert len(set(taken)) == 35
            assert set(taken) <= set(chunk(145, rank, 4))


def test_not_one_step() -> None:
    for mode in ("strided", "contiguous"):
        with pytest.raises(TrainError, match="4 ranks x batch 40"):
            Shards(145, 40, rank=0, ranks=4, seed=0, mode=mode)


def test_an_epoch_that_several_numbers_of_ranks_share_has_every_sample_once() -> None:
    """By hashes of the sample ids, as a run would prove it: 4 ranks, then 3, then 4, then 1."""
    for mode, samples in itertools.product(("strided", "contiguous"), (4 * 3 * 4 * 9, 1000, 997)):
        taken, dealt = list[int](), list[tuple[int, int, int]]()
        for ranks, steps in ((4, 3), (3, 5), (4, 1), (1, 10**6)):
            many = [Shards(samples, 4, rank=rank, ranks=ranks, seed=7, mode=mode) for rank in range(ranks)]
            for shards in many:
                shards.go_on(2, dealt)
            made = min(steps, many[0].steps_of(2))
            assert {shards.steps_of(2) for shards in many} == {many[0].steps_of(2)}
            taken += [int(one) for shards in many for step in range(made) for one in shards.indices(2, step)]
            dealt.append((ranks, 4, made))
        left = samples - len(taken)
        assert left < 4, "what fills no step of the last one"
        assert len(set(taken)) == len(taken)
        if not left:
            assert digest(taken) == digest(range(samples)) != digest([*range(samples - 1), 0])
        assert [task.step for task in many[0].tasks(2, made, 70, 72)] == [70, 71]  # the epoch behind it is whole
        assert many[0].steps_of(3) == many[0].steps


def test_no_sample_is_left_out_where_the_last_batch_is_kept() -> None:
    for mode in ("strided", "contiguous"):
        taken, dealt = list[int](), list[tuple[int, int, int]]()
        for ranks, steps in ((4, 3), (3, 10**6)):
            many = [Shards(101, 4, rank=rank, ranks=ranks, seed=7, mode=mode, keep=True) for rank in range(ranks)]
            for one in many:
                one.go_on(5, dealt)
            made = min(steps, many[0].steps_of(5))
            for step in range(made):
                parts = [one.indices(5, step)[: one.count(step, epoch=5)] for one in many]
                taken += [int(number) for part in parts for number in part]
                assert sum(one.weight(step, 5) for one in many) == pytest.approx(ranks)
            dealt.append((ranks, 4, made))
        assert sorted(taken) == list(range(101))


def digest(samples: Iterable[int]) -> int:
    """A sum over hashes of sample ids, which no order changes."""
    return sum(int.from_bytes(hashlib.sha256(str(one).encode()).digest()) for one in samples)
