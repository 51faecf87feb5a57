"""Samples set aside, and the smaller last step of an epoch: every sample once, by one rank."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from hpcsynapse.errors import SpecError, TrainError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.data.base import Data, ImageDataset, MapDataset
from hpcsynapse.trainer.data.sharding import Shards
from hpcsynapse.trainer.data.split import split


def labelled(labels: Any) -> Data:
    images = np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1)
    return Data(train=ImageDataset(images, np.asarray(labels), mean=[0], deviation=[1]))


def numbers(data: Any) -> list[int]:
    return [int(value) for value in data.batch(np.arange(len(data)))[0].flatten()]


def test_every_class_alike_and_every_sample_once() -> None:
    labels = np.array([0] * 100 + [7] * 50 + [3] * 10)
    found = split(labelled(labels), 0.2, 0.1)
    assert found.validation is not None and found.test is not None
    parts = [numbers(part) for part in (found.train, found.validation, found.test)]
    assert sorted(chain.from_iterable(parts)) == list(range(160))
    counts = [np.unique(labels[part], return_counts=True)[1].tolist() for part in parts]
    assert counts == [[70, 7, 35], [20, 2, 10], [10, 1, 5]]
    again = split(labelled(labels), 0.2, 0.1)
    assert again.validation is not None and numbers(again.validation) == parts[1]
    assert parts[0] == sorted(parts[0]), "neighbours in a file stay neighbours"


@pytest.mark.parametrize("test", [0.0, 0.1])
def test_every_sample_is_in_one_fold_and_classes_are_alike_in_all(test: float) -> None:
    labels = np.array([0] * 100 + [7] * 50 + [3] * 12)
    found = [split(labelled(labels), 0, test, folds=4, fold=fold) for fold in (1, 2, 3, 4)]
    tests = [numbers(one.test) if one.test else [] for one in found]
    assert all(one == tests[0] for one in tests), "a test is made with the same samples whatever the fold"
    held = [numbers(one.validation) for one in found]
    assert sorted(chain.from_iterable(held)) == sorted(set(range(162)) - set(tests[0]))
    for one, part in zip(found, held, strict=True):
        assert numbers(one.train) == sorted(set(range(162)) - set(part) - set(tests[0]))
    for label in (0, 3, 7):
        counts = [int((labels[part] == label).sum()) for part in held]
        assert max(counts) - min(counts) <= 1
    assert max(map(len, held)) - min(map(len, held)) <= 1


def test_folds_that_cannot_be() -> None:
    own = labelled([0, 1] * 4)
    with pytest.raises(TrainError, match=r"train\.folds: the data set brings validation samples"):
        split(Data(train=own.train, validation=own.train), 0, 0, folds=2)
    with pytest.raises(TrainError, match=r"train\.folds = 9 of 8 samples"):
        split(own, 0, 0, folds=9)
    assert len(split(own, 0, 0, folds=8, fold=8).train) == 7
    for wrong, said in (
        ({"folds": 1}, "leaves nothing to train on"),
        ({"folds": 5, "validation_share": 0.1}, "give one"),
        ({"folds": 5, "fold": 6}, r"train\.fold = 6 is none of train\.folds = 5"),
        ({"fold": 2}, r"train\.fold = 2 is none of train\.folds = 0"),
        ({"fold": 0}, r"train\.fold"),
        ({"folds": -1}, r"train\.folds"),
    ):
        with pytest.raises(SpecError, match=said):
            TrainSpec(**wrong)


def test_many_small_classes_have_their_share() -> None:
    found = split(labelled(np.arange(2000) // 2), 0.1, 0)
    assert found.validation is not None and 150 < len(found.validation) < 250


def test_a_users_samples_without_labels() -> None:
    found = split(Data(train=MapDataset([(torch.tensor(float(index)), 0) for index in range(40)])), 0.25, 0)
    assert found.validation is not None and len(found.validation) == 10 and len(found.train) == 30


def test_shares_that_cannot_be() -> None:
    own = labelled([0, 1] * 4)
    with pytest.raises(TrainError, match="brings validation samples"):
        split(Data(train=own.train, validation=own.train), 0.1, 0)
    with pytest.raises(TrainError, match=r"test_share = 0.001 of 8 samples is none"):
        split(own, 0.5, 0.001)
    with pytest.raises(SpecError, match="less than a tenth"):
        TrainSpec(validation_share=0.5, test_share=0.5)


@pytest.mark.parametrize("mode", ["strided", "contiguous"])
@pytest.mark.parametrize(
    ("samples", "batch", "ranks"), [(97, 8, 4), (96, 8, 4), (145, 16, 4), (9, 4, 2), (33, 8, 4), (5, 8, 4)]
)
def test_no_sample_is_lost_and_none_read_twice(mode: str, samples: int, batch: int, ranks: int) -> None:
    shards = [Shards(samples, batch, rank=rank, ranks=ranks, seed=3, mode=mode, keep=True) for rank in range(ranks)]
    assert len({one.steps for one in shards}) == 1
    for epoch in range(2):
        seen: list[int] = []
        for step in range(shards[0].steps):
            taken = [one.indices(epoch, step)[: one.count(step)].tolist() for one in shards]
            assert [len(part) for part in taken] == [one.count(step) for one in shards]
            assert all(len(one.indices(epoch, step)) for one in shards), "a step without samples has no loss"
            # Means over ranks, so weighted, are the mean over samples.
            total = sum(map(len, taken))
            assert [one.weight(step) * total / ranks for one in shards] == pytest.approx([len(part) for part in taken])
            seen += chain.from_iterable(taken)
        assert sorted(seen) == list(range(samples))


def test_steps_of_full_size_weigh_one() -> None:
    shards = Shards(97, 8, rank=1, ranks=4, seed=3)
    assert shards.steps == 3 and [shards.weight(step) for step in range(3)] == [1.0] * 3


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"strategy": "ps-async"}, ["last_batch", "ps-async"]),
        ({"strategy": "local-sgd"}, ["last_batch", "local-sgd"]),
        ({"strategy": "allreduce", "accumulate": 2}, ["last_batch", "accumulate"]),
    ],
)
def test_strategies_whose_steps_are_of_one_size(train: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec(resources=ResourceRequest(ranks_per_node=2), train=TrainSpec(last_batch="keep", **train))
    assert all(word in str(caught.value) for word in words)
