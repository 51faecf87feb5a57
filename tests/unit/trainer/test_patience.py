"""When validations have got no better for long enough."""

from __future__ import annotations

from typing import Any

import pytest

from hpcsynapse.errors import SpecError, TrainError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.patience import validations_without_better


@pytest.mark.parametrize(
    ("values", "metric", "expected"),
    [
        ([3, 2, 1], "loss", 0),
        ([3, 1, 1, 2], "loss", 2),
        ([0.5, 0.9, 0.8], "accuracy", 1),
        ([0.9, float("nan"), float("nan")], "accuracy", 2),
        ([5, 4, 4], "mae", 1),
        ([], "loss", 0),
    ],
)
def test_validations_in_a_row(values: list[float], metric: str, expected: int) -> None:
    curve = [{"step": 10 * number, metric: float(value)} for number, value in enumerate(values)]
    assert validations_without_better(curve, metric) == expected


def test_a_step_that_was_made_twice_counts_once() -> None:
    curve = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 5.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 0.5}]
    assert validations_without_better(curve[:3], "loss") == 1 and validations_without_better(curve, "loss") == 0


def test_a_metric_that_is_none() -> None:
    with pytest.raises(TrainError, match=r"'acc': validations tell loss, accuracy"):
        validations_without_better([{"step": 1, "samples": 4, "loss": 1.0, "accuracy": 0.5}], "acc")


@pytest.mark.parametrize(
    "train", [{"patience": 2, "validate_every": 0}, {"patience": 2, "strategy": "ps-async"}, {"patience": -1}]
)
def test_what_cannot_be_meant(train: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"train\.patience"):
        JobSpec(resources=ResourceRequest(ranks_per_node=2), train=TrainSpec(**train))
