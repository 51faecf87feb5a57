"""A transformer and the token files that it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import data, models
from hpcsynapse.trainer.models.survey import training_flops
from hpcsynapse.trainer.recompute import blocks

TINY = {"layers": 2, "heads": 2, "width": 16}


@pytest.mark.parametrize(
    ("args", "parameters"),
    [
        ({}, 124_439_808),
        ({"layers": 24, "heads": 16, "width": 1024}, 354_823_168),
        ({"layers": 36, "heads": 20, "width": 1280}, 774_030_080),
        ({"layers": 48, "heads": 25, "width": 1600}, 1_557_611_200),
    ],
)
def test_published_sizes(args: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        model = models.create("gpt", args)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(list(blocks(model))) == args.get("layers", 12)


def test_flops_are_six_a_parameter_and_token_and_those_of_attention() -> None:
    """Kaplan et al. 2020: 6 N T of all parameters but positions and norms, and 12 x layers x T^2 x width."""
    found = training_flops("gpt", {}, (1024,), 50257)
    expected = 6 * 1024 * (124_439_808 - 1024 * 768) + 12 * 12 * 1024**2 * 768
    assert found == pytest.approx(expected, rel=0.01)
    assert training_flops("own.module:model", {}, (8,), 2) is None


def test_no_position_sees_those_behind_it() -> None:
    torch.manual_seed(0)
    model = models.create("gpt", TINY, (8,), 11).eval()
    tokens = torch.randint(11, (1, 8))
    other = tokens.clone()
    other[0, 5:] = (other[0, 5:] + 1) % 11
    one, two = model(tokens), model(other)
    assert one.shape == (1, 11, 8)
    torch.testing.assert_close(one[..., :5], two[..., :5])
    assert not torch.allclose(one[..., 5:], two[..., 5:])


def test_it_learns_what_follows() -> None:
    torch.manual_seed(0)
    model = models.create("gpt", TINY, (8,), 11)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tokens = (torch.arange(9) * 3 + torch.arange(11)[:, None]) % 11
    first = last = 0.0
    for step in range(60):
        optimizer.zero_grad()
        loss = cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
        loss.backward()
        optimizer.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert first == pytest.approx(np.log(11), abs=0.1) and last < 0.1


@pytest.mark.parametrize(
    ("shape", "args", "words"),
    [
        ((3, 8, 8), {}, "tokens"),
        ((8,), {"width": 10, "heads": 4}, "multiple"),
        ((8,), {"layers": 0}, "layers = 0"),
        ((8,), {"dropout": 1.0}, "dropout"),
    ],
)
def test_sizes_that_do_not_go_together(shape: tuple[int, ...], args: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainError, match=words):
        models.create("gpt", args, shape, 11)


@pytest.mark.parametrize("form", ["uint16", "uint32", "npy"])
def test_every_token_is_learnt_once(tmp_path: Path, form: str) -> None:
    """4 sequences of 5 and the token that follows; what is left over is no sequence."""
    tokens = np.arange(100, 123, dtype="uint32" if form == "uint32" else "uint16")
    if form == "npy":
        np.save(tmp_path / "train.npy", tokens)
    else:
        tokens.tofile(tmp_path / "train.bin")
    args = {"dtype": form} if form != "npy" else {}
    found = data.load("tokens", str(tmp_path), {"context": 5, "vocabulary": 200, **args})
    assert (found.shape, found.classes, found.tokens, len(found.train)) == ((5,), 200, 5, 4)
    inputs, targets = found.train.batch(np.array([3, 0]))
    assert inputs.tolist() == [[115, 116, 117, 118, 119], [100, 101, 102, 103, 104]]
    assert targets.tolist() == [[116, 117, 118, 119, 120], [101, 102, 103, 104, 105]]
    assert inputs.dtype == torch.int64 and found.validation is None


def test_validation_tokens(tmp_path: Path) -> None:
    for name in ("train", "val"):
        np.zeros(50, "uint16").tofile(tmp_path / f"{name}.bin")
    found = data.load("tokens", str(tmp_path), {"context": 10}).validation
    assert found is not None and len(found) == 4


@pytest.mark.parametrize(
    ("content", "args", "words"),
    [
        (b"\0" * 21, {}, "21 bytes are no whole number of uint16"),
        (b"\0" * 8, {"context": 4}, "4 tokens are no sequence of 4"),
        (b"", {}, "0 bytes"),
        (b"\0" * 80, {"dtype": "int8"}, "dtype = 'int8'"),
        (b"\0" * 80, {"context": 0}, "context = 0"),
        (None, {}, "neither train.bin nor train.npy"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes | None, args: dict[str, Any], words: str) -> None:
    if content is not None:
        (tmp_path / "train.bin").write_bytes(content)
    with pytest.raises(TrainError, match=words):
        data.load("tokens", str(tmp_path), {"context": 4, **args})


def test_an_array_that_holds_no_tokens(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", np.zeros((4, 4)))
    with pytest.raises(TrainError, match="float64"):
        data.load("tokens", str(tmp_path), {})


def test_a_token_beyond_the_vocabulary_is_named(tmp_path: Path) -> None:
    tokens = np.zeros(21, "uint16")
    tokens[13] = 70
    tokens.tofile(tmp_path / "train.bin")
    found = data.load("tokens", str(tmp_path), {"context": 5, "vocabulary": 64})
    with pytest.raises(TrainError, match="token 13 is 70, but the vocabulary has 64"):
        found.train.batch(np.array([0, 2]))
