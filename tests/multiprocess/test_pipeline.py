"""A model in stages is the model of one rank: parameters, metrics, and checkpoints that either takes up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jobs import Starter, parameters

from hpcsynapse.errors import SpecError, TrainError
from hpcsynapse.runs import records
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer import models
from hpcsynapse.trainer.stages import boundaries, keep

SETTINGS: dict[str, Any] = {
    "model": "gpt",
    "model_args": {"layers": 2, "heads": 2, "width": 16, "tied": False},
    "data": "tokens",
    "optimizer": "adamw",
    "lr": 0.002,
    "weight_decay": 0.01,
    "decay_norms": False,
    "clip_norm": 1.0,
    "batch": 16,
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("text")
    for name, count in (("train", 1000), ("val", 300)):
        ((torch.arange(count) * 7) % 31).to(torch.uint16).numpy().tofile(folder / f"{name}.bin")
    return {**SETTINGS, "data_path": str(folder), "data_args": {"context": 8, "vocabulary": 31}}


@pytest.fixture(scope="module")
def single(references: Starter, text: dict[str, Any]) -> RunDirectory:
    return references("single-stages", steps=10, **text).succeed()


def equal(single: RunDirectory, run: RunDirectory) -> None:
    expected, found = parameters(single), parameters(run)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "schedule", "parts"), [(2, "gpipe", 2), (3, "1f1b", 4)])
def test_parameters_are_those_of_single(
    starter: Starter, text: dict[str, Any], single: RunDirectory, ranks: int, schedule: str, parts: int
) -> None:
    """Two epochs with validations between them; the batch is counted once."""
    flow = {"strategy": "pipeline", "pipeline_schedule": schedule, "microbatches": parts}
    run = starter("many", ranks, steps=10, **text, **flow).succeed()
    equal(single, run)
    expected, found = (each.read_history()[-1]["result"] for each in (single, run))
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["accuracy"] == pytest.approx(expected["accuracy"])
    headers = {part.header["rank"]: part.header for part in records.parts(run.timings)}
    assert {header["strategy"] for header in headers.values()} == {"pipeline"} and len(headers) == ranks
    assert headers[0]["global_batch"] == 16


@pytest.mark.slow
def test_stages_go_on_from_one_rank_and_one_rank_from_stages(
    starter: Starter, text: dict[str, Any], single: RunDirectory
) -> None:
    """4 steps on one rank, 3 in stages, 3 on one rank: the optimizer's state goes along."""
    run = starter("many", 1, strategy="single", **{**text, "steps": 4}).succeed()
    for steps, ranks, strategy in ((7, 2, "pipeline"), (10, 1, "single")):
        spec = run.load_spec().with_("train", strategy="auto").with_("resources", ranks_per_node=ranks)
        run.write_spec(spec.with_("train", steps=steps, strategy=strategy))
        starter.start(run, ranks).succeed()
    equal(single, run)


@pytest.mark.parametrize(
    ("sizes", "stages", "expected"),
    [
        ([5, 5, 5, 5], 2, [0, 2, 4]),
        ([1, 1, 8, 1], 2, [0, 2, 4]),
        ([9, 1, 1], 3, [0, 1, 2, 3]),
        ([1, 1, 9], 2, [0, 2, 3]),
    ],
)
def test_stages_are_balanced(sizes: list[int], stages: int, expected: list[int]) -> None:
    assert boundaries(sizes, stages) == expected


def test_a_stage_keeps_its_parameters_alone_under_their_names() -> None:
    whole = models.create("dualnet", {}, (3, 32, 32), 10)
    names = [name for name, _ in whole.named_parameters()]
    found: list[str] = []
    for stage in range(3):
        model = models.create("dualnet", {}, (3, 32, 32), 10)
        keep(model, stage, 3)
        found += [name for name, _ in model.named_parameters()]
    assert found == names


def test_models_that_are_no_sequence() -> None:
    with pytest.raises(TrainError, match="use --strategy sharded"):
        keep(models.create("resnet56", {}, (3, 32, 32), 10), 0, 2)
    with pytest.raises(TrainError, match="tied=false"):
        keep(models.create("gpt", {"layers": 1, "heads": 1, "width": 8}, (4,), 11), 0, 2)
    with pytest.raises(TrainError, match="too few for 9 stages"):
        boundaries([1] * 8, 9)


@pytest.mark.parametrize(
    ("ranks", "train", "words"),
    [
        (1, {}, "two stages"),
        (2, {"batch": 10}, "not divisible"),
        (8, {"batch": 16}, "fewer than the 8 stages"),
        (2, {"engine": "mpi"}, "use ddp"),
        (2, {"accumulate": 2}, "train.accumulate does not go with strategy pipeline"),
    ],
)
def test_what_does_not_go_together(ranks: int, train: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        JobSpec(resources=ResourceRequest(ranks_per_node=ranks), train=TrainSpec(strategy="pipeline", **train))
