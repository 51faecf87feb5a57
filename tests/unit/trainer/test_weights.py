"""Weights of a run for other programs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hpcsynapse.errors import SpecError, TrainError
from hpcsynapse.trainer.checkpoint import Checkpoints, Progress
from hpcsynapse.trainer.weights import export_weights


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    made = Checkpoints(tmp_path / "checkpoints", 5)
    for step in (4, 8):
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        torch.nn.init.constant_(model[0].weight, step)
        made.save(model, torch.optim.SGD(model.parameters(), lr=0.1), Progress(step=step), {})
    made.wait()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("ending", ["pt", "pth", "safetensors"])
def test_a_model_takes_them_up(checkpoints: Path, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"weights.{ending}"
    for step, expected in ((None, 8), (4, 4)):
        assert export_weights(checkpoints, file, step) == (expected, 7)
        state = load_file(file) if ending == "safetensors" else torch.load(file, weights_only=True)
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        model.load_state_dict(state)
        assert model[0].weight[0, 0] == expected
    assert [path.name for path in tmp_path.iterdir() if path.name != "checkpoints"] == [file.name]


def test_what_cannot_be_written(checkpoints: Path, tmp_path: Path) -> None:
    for target, step, words in (
        (tmp_path / "weights.onnx", None, r"use one of \.pt"),
        (tmp_path / "weights.pt", 5, "there are 8, 4"),
        (tmp_path / "absent" / "weights.pt", None, "cannot be written"),
    ):
        with pytest.raises(SpecError, match=words):
            export_weights(checkpoints, target, step)
    with pytest.raises(TrainError, match="holds no checkpoint"):
        export_weights(tmp_path / "none", tmp_path / "weights.pt")
