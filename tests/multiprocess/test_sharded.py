"""A model in pieces over the ranks is the model of one rank: parameters, checkpoints, another number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import Starter, parameters
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from hpcsynapse.errors import SpecError
from hpcsynapse.runs import records
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.weights import export_weights

GLOBAL_BATCH = 16
SETTINGS: dict[str, Any] = {"optimizer": "adamw", "lr": 0.002, "weight_decay": 0.01, "clip_norm": 1.0, "steps": 10}
# Two blocks, each a piece of its own, behind layers that are not in one.
BLOCKS: dict[str, Any] = {"model": "gpt", "model_args": {"layers": 2, "heads": 2, "width": 16}, "data": "tokens"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("text")
    for name, count in (("train", 2000), ("val", 300)):
        ((torch.arange(count) * 7) % 31).to(torch.uint16).numpy().tofile(folder / f"{name}.bin")
    return {**BLOCKS, "data_path": str(folder), "data_args": {"context": 8, "vocabulary": 31}, **SETTINGS}


def whole(run: RunDirectory, folder: Path) -> dict[str, torch.Tensor]:
    """Return the parameters of a run's newest pieces, put together by torch's own tool."""
    newest = sorted(run.checkpoints.glob("step-*.shards"))[-1]
    assert newest.with_suffix(".pt").is_file()
    dcp_to_torch_save(newest, folder / "whole.pt")
    model: dict[str, torch.Tensor] = torch.load(folder / "whole.pt", weights_only=False)["model"]
    return model


def equal(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text)


@pytest.fixture(scope="module")
def single(references: Starter, text: dict[str, Any]) -> RunDirectory:
    return references("single-text", batch=GLOBAL_BATCH, **text).succeed()


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"accumulate": 2, "recompute": True}])
def test_parameters_are_those_of_single(
    starter: Starter, text: dict[str, Any], single: RunDirectory, tmp_path: Path, more: dict[str, Any]
) -> None:
    parts = more.get("accumulate", 1)
    job = starter("many", 2, strategy="sharded", batch=GLOBAL_BATCH // 2 // parts, **text, **more)
    run = job.succeed()
    equal(parameters(single), whole(run, tmp_path))
    assert export_weights(run.checkpoints, tmp_path / "weights.pt")[0] == 10
    equal(parameters(single), torch.load(tmp_path / "weights.pt", weights_only=True))
    expected, found = (each.read_history()[-1]["result"] for each in (single, run))
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["accuracy"] == pytest.approx(expected["accuracy"])
    assert job.status()["peak_memory"] > 50 * 2**20
    for part in records.parts(run.timings):
        assert (part.header["strategy"], part.header["engine"], part.header["controller"]) == ("sharded", "ddp", "gloo")


@pytest.mark.slow
def test_it_goes_on_with_another_number_of_ranks(
    starter: Starter, text: dict[str, Any], single: RunDirectory, tmp_path: Path
) -> None:
    """4 ranks make 6 steps, then 2 ranks with twice the batch go on to 10: as one rank that made all of them."""
    first = starter("many", 4, strategy="sharded", batch=GLOBAL_BATCH // 4, **{**text, "steps": 6}).succeed()
    killed = first.checkpoints / "step-000000008.shards"  # as of a start that was killed while it wrote
    killed.mkdir()
    (killed / "__0_0.distcp").write_bytes(b"half")
    spec = first.load_spec().with_("train", steps=10, batch=GLOBAL_BATCH // 2).with_("resources", ranks_per_node=2)
    first.write_spec(spec)
    run = starter.start(first, 2).succeed()
    equal(parameters(single), whole(run, tmp_path))
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == [
        f"step-{step:09d}.{ending}" for step in (6, 10) for ending in ("pt", "shards")
    ]


def test_other_engines_are_refused() -> None:
    with pytest.raises(SpecError, match="'mpi' does not carry out strategy sharded; use ddp"):
        JobSpec(resources=ResourceRequest(ranks_per_node=2), train=TrainSpec(strategy="sharded", engine="mpi"))
