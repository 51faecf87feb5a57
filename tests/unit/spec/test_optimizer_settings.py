"""Which update rules and schedules a description may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.submission.schedule_checks import check_schedule


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"milestones": ("100x",)}, ["'100x'", "100e"]),
        ({"milestones": ("1e5",)}, ["'1e5'", "100e"]),
        ({"milestones": ("0e",)}, ["'0e'"]),
        ({"milestones": (0,)}, ["0", "at least 1"]),
        ({"milestones": ("20e", 5, "10e")}, ["must rise"]),
        ({"milestones": (1.5,)}, ["milestones[0]", "1.5", "whole number or a text"]),
        ({"milestones": (10,), "lr_decay": "cosine"}, ["milestones", "cosine"]),
        ({"lr_end": 0.1}, ["lr_end", "cosine"]),
        ({"warmup_steps": 5, "warmup_epochs": 1.0}, ["warmup_steps", "warmup_epochs"]),
        ({"optimizer": "lamb", "strategy": "ps-sync"}, ["'lamb'", "ps-sync"]),
        ({"optimizer": "lars", "strategy": "mixed"}, ["'lars'", "mixed"]),
        ({"decay_norms": False, "strategy": "ps-async"}, ["decay_norms", "ps-async"]),
        ({"decay_norms": False, "strategy": "admm"}, ["decay_norms", "admm"]),
    ],
)
def test_what_cannot_be_meant(train: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec(resources=ResourceRequest(ranks_per_node=2), train=TrainSpec(**{"strategy": "allreduce", **train}))
    assert all(word in str(caught.value) for word in words), caught.value


def test_milestones_as_typed_and_as_written() -> None:
    assert TrainSpec(milestones=("100", "50e")).milestones == (100, "50e")
    spec = JobSpec(train=TrainSpec(milestones=(10, "4e", "600samples")))
    assert JobSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("train", "ranks", "beyond"),
    [
        # CIFAR-10 on 16 ranks x 128: 24 steps an epoch, 3,840 in 160 epochs
        ({"data": "cifar10", "batch": 128, "epochs": 160, "milestones": (3839, 3840)}, 16, [3840]),
        ({"data": "cifar10", "batch": 128, "epochs": 160, "milestones": ("159e", "160e")}, 16, ["160e"]),
        ({"data": "cifar10", "batch": 64, "accumulate": 2, "epochs": 160, "milestones": (3840,)}, 16, [3840]),
        ({"data": "cifar10", "batch": 128, "epochs": 160, "milestones": (3840,), "strategy": "ps-async"}, 16, []),
        ({"data": "cifar10", "steps": 100, "milestones": (99, 100)}, 4, [100]),
        ({"data": "synthetic", "data_args": {"samples": 320}, "epochs": 2, "milestones": (19, 20)}, 1, [20]),
        ({"data": "own.module:data", "epochs": 2, "milestones": ("1e", "2e")}, 4, ["2e"]),
        ({"data": "own.module:data", "steps": 50, "milestones": (49, 50)}, 4, [50]),
        ({"data": "own.module:data", "epochs": 2, "milestones": (10**9,)}, 4, []),  # nobody knows
        ({"data": "digits", "epochs": 2, "milestones": ()}, 4, []),
    ],
)
def test_milestones_beyond_the_run(train: dict[str, Any], ranks: int, beyond: list[Any], tmp_path: Path) -> None:
    train = {"strategy": "allreduce", **train}
    spec = JobSpec(resources=ResourceRequest(ranks_per_node=ranks), train=TrainSpec(**train))
    found = [finding.message for finding in check_schedule(spec)]
    assert [message.split()[1] for message in found] == [str(point) for point in beyond]
