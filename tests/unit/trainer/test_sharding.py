"""Sharding: who takes which sample, and that nothing is taken twice."""

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
