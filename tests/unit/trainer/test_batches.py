"""Batches of every form: taken apart into inputs and targets, moved to a device, trained on and evaluated."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from user_folders import write

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.trainer import data, models
from hpcsynapse.trainer.data.augment import crop_and_flip
from hpcsynapse.trainer.data.batches import split, to_device
from hpcsynapse.trainer.engines.alone import AloneEngine
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.validation import evaluate

CPU, META = torch.device("cpu"), torch.device("meta")
Pair = namedtuple("Pair", "image size")


def test_every_tensor_is_moved_and_nothing_else_changes() -> None:
    zeros = torch.zeros(2)
    batch = {"a": [zeros, (zeros, "text")], "b": Pair(zeros, 3), "c": {"d": zeros}, "e": None, "f": np.zeros(1)}
    moved = to_device(batch, META)
    assert moved["a"][0].device == moved["a"][1][0].device == moved["b"].image.device == moved["c"]["d"].device == META
    assert isinstance(moved["b"], Pair) and isinstance(moved["a"][1], tuple)
    assert (moved["a"][1][1], moved["b"].size, moved["e"], moved["f"]) == ("text", 3, None, batch["f"])
    assert zeros.device == CPU
    assert to_device(pack_sequence([zeros]), META).data.device == META


@pytest.mark.parametrize(
    ("batch", "parts"),
    [
        ((1, 2), (1, 2)),
        ([1, 2], (1, 2)),
        ({"inputs": 1, "targets": 2, "id": 3}, (1, 2)),
        ({"data": 1, "target": 2}, (1, 2)),
        ({"input": 1, "target": 2}, (1, 2)),
        ({"image": 1, "boxes": 2}, ({"image": 1, "boxes": 2},) * 2),
    ],
)
def test_the_two_parts(batch: object, parts: tuple[object, object]) -> None:
    assert split(batch, "data x") == parts


@pytest.mark.parametrize("batch", [(1, 2, 3), [1], torch.zeros(2, 2), None, 5])
def test_what_has_no_two_parts(batch: object) -> None:
    with pytest.raises(TrainError, match=r"data x: a batch must be a pair"):
        split(batch, "data x")


FORMS = {  # what a sample is, how the model takes the inputs, how the loss takes the targets
    "tensors": ("(x, y)", "inputs", "target"),
    "lists": ("([x, x], [y, y])", "inputs[0]", "target[1]"),
    "dicts": ("({'x': x}, {'y': y, 'n': index})", "inputs['x']", "target['y']"),
    "nested": ("({'x': (x, [x])}, [{'y': y}])", "inputs['x'][1][0]", "target[0]['y']"),
    "one dict": ("{'x': x, 'y': y}", "inputs['x']", "target['y']"),
    "named dict": ("{'data': x, 'target': y}", "inputs", "target"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_evaluated_alike(tmp_path: Path, form: str) -> None:
    sample, inputs, target = FORMS[form]
    write(
        tmp_path / "model",
        bks_model=f"""
        import torch
        from torch import nn

        class UserModel(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = nn.Parameter(torch.ones(1))

            def forward(self, inputs):
                return self.scale * {inputs}

            def loss(self, output, target):
                return (output - {target}).abs().mean()
        """,
    )
    write(
        tmp_path / "loader",
        bks_dataset=f"""
        import torch

        class UserDataset:
            def __init__(self, data_path):
                pass

            def __len__(self):
                return 10

            def __getitem__(self, index):
                x, y = torch.full((2,), float(index)), torch.full((2,), index - 1.0)
                return {sample}
        """,
    )
    model, samples = models.create(str(tmp_path / "model"), {}), data.load(str(tmp_path / "loader"), None, {})
    engine = AloneEngine(RankIdentity(), CPU, 10, 10)
    found = evaluate(model, Objective(model), samples.train, 3, engine, CPU, lambda: False).metrics
    assert found == {"loss": pytest.approx(1.0)}


def test_metrics_are_optional_and_come_in_any_kind_of_number() -> None:
    class Own(nn.Identity):
        def loss(self, output, target):
            return output.mean()

    class More(Own):
        def metrics(self, output, target):
            return {"a": np.float32(1.5), "b": torch.tensor(2), "c": 3, 4: True}

    target = torch.zeros(1, dtype=torch.int64)
    assert Objective(Own()).metrics({"x": 1}, {"y": 2}) == Objective(Own()).metrics(target, target) == {}
    assert Objective(More()).metrics(None, None) == {"a": 1.5, "b": 2.0, "c": 3.0, "4": 1.0}
    with pytest.raises(TrainError, match="targets are a dict: only a model with a loss of its own"):
        Objective(nn.Identity()).loss(torch.zeros(1), {"y": 1})


def test_only_images_are_augmented() -> None:
    for inputs, words in ((torch.zeros(2, 3), r"a tensor \(2, 3\)"), ([torch.zeros(1)], "list")):
        with pytest.raises(TrainError, match=rf"train\.augment is for images .* inputs are {words}"):
            crop_and_flip(inputs, (0, 0, 0))
