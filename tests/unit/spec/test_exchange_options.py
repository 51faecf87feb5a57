"""Which exchange goes with which strategy and engine is known before anything is queued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import ExchangeOptions, TrainSpec
from hpcsynapse.submission.resolve import choose_engine, resolve


def describe(strategy: str, engine: str, launcher: str = "auto", **exchange: Any) -> JobSpec:
    return JobSpec(
        resources=ResourceRequest(ranks_per_node=2),
        queue=QueueOptions(scheduler="local"),
        launch=LaunchOptions(launcher=launcher),
        train=TrainSpec(strategy=strategy, engine=engine),
        exchange=ExchangeOptions(**exchange),
    )


@pytest.mark.parametrize(
    ("strategy", "engine", "exchange", "words"),
    [
        ("central", "horovod", {}, ["'horovod'", "central", "mpi or ddp"]),
        ("allreduce", "horovod", {"compression": "bf16"}, ["'bf16'", "Horovod", "fp16"]),
        ("allreduce", "horovod", {"compression": "powersgd"}, ["'powersgd'", "horovod", "ddp"]),
        ("allreduce", "mpi", {"compression": "powersgd"}, ["'powersgd'", "mpi", "ddp"]),
        ("central", "ddp", {"compression": "powersgd"}, ["'powersgd'", "central"]),
        ("local-sgd", "ddp", {"compression": "powersgd"}, ["'powersgd'", "local-sgd"]),
        ("ps-async", "ddp", {"compression": "fp16"}, ["'fp16'", "ps-async"]),
        ("admm", "ddp", {"compression": "fp16"}, ["'fp16'", "admm"]),
        ("allreduce", "mpi", {"bucket_mb": 1.0}, ["bucket_mb = 1", "mpi"]),
        ("allreduce", "ddp", {"bucket_mb": 1.0, "compression": "powersgd"}, ["bucket_mb = 1", "powersgd"]),
        ("local-sgd", "mpi", {"overlap": True}, ["overlap", "ddp or horovod", "mpi"]),
    ],
)
def test_what_does_not_go_together(strategy: str, engine: str, exchange: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        describe(strategy, engine, **exchange)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("strategy", "exchange"),
    [
        ("central", {}),
        ("allreduce", {"compression": "powersgd"}),
        ("allreduce-broadcast", {"compression": "bf16"}),
        ("allreduce", {"bucket_mb": 0.5}),
    ],
)
def test_auto_takes_an_engine_that_can(strategy: str, exchange: dict[str, Any], tmp_path: Path) -> None:
    spec = describe(strategy, "auto", "mpirun", **exchange)
    assert choose_engine(spec)[0] == "ddp"
    assert resolve(spec, tmp_path).train.engine == "ddp"


def test_horovodrun_starts_no_other_engine(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="central"):
        resolve(describe("central", "auto", "horovodrun"), tmp_path)


def test_one_rank_exchanges_nothing(tmp_path: Path) -> None:
    """A study's baseline may carry the options of its other points."""
    spec = JobSpec(exchange=ExchangeOptions(compression="fp16"), queue=QueueOptions(scheduler="local"))
    assert resolve(spec, tmp_path).train.strategy == "single"


def test_synchronous_steps_by_default() -> None:
    assert ExchangeOptions().synchronous == 0
    assert ExchangeOptions(compression="powersgd").synchronous == 10
    assert ExchangeOptions(compression="powersgd", synchronous_steps=3).synchronous == 3


@pytest.mark.parametrize(
    ("strategy", "exchange", "label"),
    [
        ("single", {"compression": "fp16"}, "single"),
        ("allreduce", {"average_every": 4}, "allreduce"),
        ("allreduce", {"compression": "fp16", "bucket_mb": 0.5}, "allreduce+fp16+bucket0.5"),
        ("central", {"bucket_mb": 1.0}, "central"),
        ("allreduce-broadcast", {"broadcast_every": 5}, "allreduce-broadcast+every5"),
        ("local-sgd", {}, "local-sgd"),
        ("local-sgd", {"overlap": True, "compression": "bf16", "average_every": 16}, "local-sgd+every16+overlap+bf16"),
    ],
)
def test_runs_that_exchange_differently_have_different_labels(
    strategy: str, exchange: dict[str, Any], label: str
) -> None:
    assert ExchangeOptions(**exchange).label(strategy) == label
