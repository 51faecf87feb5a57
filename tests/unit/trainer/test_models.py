"""Models: published parameter counts, shapes, and what a user's own model may be."""

import pytest
import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import models


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def bottleneck_count() -> int:
    """Parameters of 9n+2 layers with bottlenecks (w, w, 4w), batch norm everywhere, shortcuts without parameters."""
    total, inputs = 3 * 16 * 9 + 2 * 16, 16
    for width in (16, 32, 64):
        for _ in range(9):
            total += inputs * width + 9 * width * width + 4 * width * width + 2 * (width + width + 4 * width)
            inputs = 4 * width
    return total + inputs * 10 + 10


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("simple-cnn", (1, 28, 28), 1_199_882),
        ("resnet56", (3, 32, 32), 853_018),  # He et al. 2015, table 6: 0.85 M
        ("resnet83", (3, 32, 32), bottleneck_count()),
    ],
)
def test_count_and_shape(name: str, shape: tuple[int, ...], parameters: int) -> None:
    model = models.create(name, {}, shape, 10)
    assert count(model) == parameters
    assert model(torch.randn(2, *shape)).shape == (2, 10)


def test_layers_are_as_many_as_the_name_says() -> None:
    for name, layers in (("resnet56", 56), ("resnet83", 83)):
        weighted = [m for m in models.create(name, {}).modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
        assert len(weighted) == layers


def test_maps_shrink_by_group() -> None:
    for shortcut in ("zeros", "projection"):
        model = models.create("resnet83", {"n": 1, "shortcut": shortcut})
        assert model.blocks(torch.randn(1, 16, 32, 32)).shape == (1, 256, 8, 8)


def test_shortcuts_as_the_source_of_resnet83_had_them() -> None:
    model = models.create("resnet83", {"shortcut": "projection"})
    assert sum(parameter.numel() for parameter in model.parameters()) == 869_530
    with pytest.raises(TrainError, match="'mean' is not one of zeros, projection"):
        models.create("resnet83", {"shortcut": "mean"})


def test_built_in_models_adapt_to_the_data() -> None:
    assert models.create("simple-cnn", {}, (3, 20, 24), 7)(torch.randn(2, 3, 20, 24)).shape == (2, 7)
    assert models.create("resnet56", {"n": 1}, (1, 32, 32), 4)(torch.randn(2, 1, 32, 32)).shape == (2, 4)


def test_dropout_is_an_option() -> None:
    rates = [m.p for m in models.create("simple-cnn", {}).modules() if isinstance(m, torch.nn.Dropout)]
    assert rates == [0.25, 0.5]
    model = models.create("simple-cnn", {"dropout": 0.0}).train()
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(images), model(images))


def test_users_model(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine_model.py").write_text(
        "import torch\ndef make(width=3):\n    return torch.nn.Linear(width, 2)\nx = 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert models.create("mine_model:make", {"width": 4}, (1, 28, 28), 10).in_features == 4
    with pytest.raises(TrainError, match="no 'absent'"):
        models.create("mine_model:absent", {})
    with pytest.raises(TrainError, match="no module 'nowhere'"):
        models.create("nowhere:make", {})


def test_refusals() -> None:
    with pytest.raises(TrainError, match=r"did you mean 'resnet56'"):
        models.create("resnet57", {})
    with pytest.raises(TrainError, match="depth"):
        models.create("simple-cnn", {"depth": 3})
    with pytest.raises(TrainError, match=r"not a torch\.nn\.Module"):
        models.create("collections:OrderedDict", {})


def test_table_is_complete() -> None:
    assert set(models.MODELS) == {
        "simple-cnn",
        "unet",
        "resnet56",
        "resnet83",
        "alexnet",
        "vgg16",
        "vgg19",
        "resnet50",
        "resnet152",
        "dualnet",
        "gpt",
        "retinanet",
    }
