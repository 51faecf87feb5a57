"""The models of the sources: published sizes, the shape behind every layer, variants for small images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import models
from hpcsynapse.trainer.models.survey import measure, survey
from hpcsynapse.trainer.objective import Objective

pytestmark = pytest.mark.slow

PUBLISHED = {
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet50": 25_557_032,
    "resnet152": 60_192_808,
}
# Multiply-adds in units of 10^9, as published with torchvision's weights.
MULTIPLY_ADDS = {"alexnet": 0.71, "vgg16": 15.47, "vgg19": 19.63, "resnet50": 4.09, "resnet152": 11.51}
WEIGHT_LAYERS = {"alexnet": 8, "vgg16": 16, "vgg19": 19, "resnet50": 50, "resnet152": 152, "unet": 23, "dualnet": 6}


def on_meta(name: str, shape: tuple[int, ...] | None = None, classes: int | None = None, **args: object) -> nn.Module:
    """A model without storage, which computes shapes only."""
    with torch.device("meta"):
        return models.create(name, args, shape, classes).eval()


def shapes(model: nn.Module, shape: tuple[int, ...]) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, type and output shape (without batch) of every layer, in the order in which they run."""
    seen: list[tuple[str, str, tuple[int, ...]]] = []
    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda module, _, output, name=name: seen.append((name, type(module).__name__, tuple(output.shape[1:])))
            )
    model(torch.empty(1, *shape, device="meta"))
    return seen


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def convolution(inputs: int, outputs: int, side: int = 3) -> int:
    return inputs * outputs * side * side + outputs


def unet_count() -> int:
    total, inputs = 0, 97
    for filters in (32, 64, 128, 256, 512):
        total += convolution(inputs, filters) + convolution(filters, filters) + 2 * filters
        inputs = filters
    for filters in (256, 128, 64, 32):
        total += 2 * convolution(2 * filters, filters) + convolution(filters, filters) + 2 * filters
    return total + convolution(32, 1, 1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    assert count(on_meta(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_published_multiply_adds(name: str) -> None:
    assert round(measure(name, (3, 224, 224), 1000).flops / 2e9, 2) == MULTIPLY_ADDS[name]


@pytest.mark.parametrize("name", WEIGHT_LAYERS)
def test_layers_are_as_many_as_the_source_counts(name: str) -> None:
    weighted = [
        module_name
        for module_name, module in on_meta(name).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in module_name  # He et al. do not count them
    ]
    assert len(weighted) == WEIGHT_LAYERS[name]


def test_simple_cnn_layer_by_layer() -> None:
    found = [(kind, shape) for _, kind, shape in shapes(on_meta("simple-cnn"), (1, 28, 28))]
    assert found == [
        ("Conv2d", (32, 26, 26)),
        ("ReLU", (32, 26, 26)),
        ("Conv2d", (64, 24, 24)),
        ("ReLU", (64, 24, 24)),
        ("MaxPool2d", (64, 12, 12)),
        ("Dropout", (64, 12, 12)),
        ("Flatten", (9216,)),
        ("Linear", (128,)),
        ("ReLU", (128,)),
        ("Dropout", (128,)),
        ("Linear", (10,)),
    ]


def test_unet_layer_by_layer() -> None:
    found = shapes(on_meta("unet"), (97, 192, 192))
    block = ["Conv2d", "ReLU", "Conv2d", "ReLU", "BatchNorm2d"]
    expected: list[tuple[str, tuple[int, ...]]] = []
    for filters, side in ((32, 192), (64, 96), (128, 48), (256, 24)):
        expected += [(kind, (filters, side, side)) for kind in [*block, "Dropout"]]
        expected.append(("MaxPool2d", (filters, side // 2, side // 2)))
    expected += [(kind, (512, 12, 12)) for kind in [*block, "Dropout"]]
    for filters, side in ((256, 24), (128, 48), (64, 96), (32, 192)):
        expected.append(("Upsample", (2 * filters, side, side)))
        expected += [(kind, (filters, side, side)) for kind in ["Conv2d", "ReLU", *block]]
    expected.append(("Conv2d", (1, 192, 192)))
    assert [(kind, shape) for _, kind, shape in found] == expected


def test_unet_has_the_parameters_of_its_table() -> None:
    assert count(on_meta("unet")) == unet_count() == 8_660_513


def test_unet_joins_the_encoder_block_of_the_same_size() -> None:
    torch.manual_seed(0)
    model = models.create("unet", {}, (2, 32, 32)).eval()
    kept: dict[str, torch.Tensor] = {}
    for index in range(4):
        model.encoder[index].register_forward_hook(lambda _, __, output, key=f"e{index}": kept.update({key: output}))
        model.decoder[index].register_forward_hook(lambda _, given, __, key=f"d{index}": kept.update({key: given[0]}))
    with torch.no_grad():
        model(torch.randn(1, 2, 32, 32))
    for index in range(4):
        skipped, joined = kept[f"e{3 - index}"], kept[f"d{index}"]
        assert joined.shape[1] == 2 * skipped.shape[1]
        assert torch.equal(joined[:, : skipped.shape[1]], skipped)


def test_unet_learns_images_of_numbers_and_of_labels() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 16, 32)
    for classes, target in ((None, torch.randn(2, 1, 16, 32)), (5, torch.randint(5, (2, 16, 32)))):
        model = models.create("unet", {}, (3, 16, 32), classes)
        Objective(model).loss(model(inputs), target).backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    rates = [module.p for module in models.create("unet", {"dropout": 0.0}).modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.0] * 5


def test_dualnet_layer_by_layer() -> None:
    found = shapes(on_meta("dualnet"), (1, 28, 28))
    assert [(name, shape) for name, _, shape in found] == [
        ("conv1", (8, 28, 28)),
        ("relu1", (8, 28, 28)),
        ("pool1", (8, 14, 14)),
        ("conv2", (16, 14, 14)),
        ("relu2", (16, 14, 14)),
        ("pool2", (16, 7, 7)),
        ("conv3", (16, 7, 7)),
        ("relu3", (16, 7, 7)),
        ("pool3", (16, 3, 3)),
        ("conv4", (16, 3, 3)),
        ("relu4", (16, 3, 3)),
        ("flatten", (144,)),
        ("fc1", (64,)),
        ("relu5", (64,)),
        ("fc2", (10,)),
    ]
    assert count(on_meta("dualnet")) == 15_818


def test_dualnet_can_be_cut_behind_any_layer() -> None:
    torch.manual_seed(0)
    model = models.create("dualnet", {}, (3, 32, 32), 10)
    names = [name for name, _ in model.named_children()]
    assert model.cut == "pool2" and names.index(model.cut) == 5
    images = torch.randn(2, 3, 32, 32)
    whole = model(images)
    for behind in range(1, len(names)):
        activation = model[:behind](images)
        before = activation.clone()
        assert torch.equal(model[behind:](activation), whole)
        assert torch.equal(activation, before), names[behind]  # what was sent is not overwritten


@pytest.mark.parametrize("name", ["dualnet", "unet", "resnet50"])
def test_he_initialisation(name: str) -> None:
    torch.manual_seed(0)
    for module in models.create(name, {}).modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() > 30_000:
            wide = name == "resnet50" and isinstance(module, nn.Linear)
            expected = 0.01 if wide else (2 / module.weight[0].numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.03)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            assert not module.bias.any()


@pytest.mark.parametrize("name", ["simple-cnn", "unet", "resnet56", "resnet83", "resnet50", "dualnet"])
def test_the_seed_decides_the_weights(name: str) -> None:
    def state(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return models.create(name, {}).state_dict()

    first, again, other = state(5), state(5), state(6)
    assert list(first) == list(again)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("alexnet", 28_711_754),
        ("vgg16", 33_638_218),
        ("vgg19", 38_947_914),
        ("resnet50", 23_520_842),  # 25,557,032 - 7x7 and 1000 classes + 3x3 and 10 classes
        ("resnet152", 58_156_618),
    ],
)
def test_the_size_of_the_images_chooses_the_variant(name: str, parameters: int) -> None:
    small = on_meta(name, (3, 32, 32), 10)
    assert count(small) == parameters
    assert small(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    assert count(on_meta(name, (3, 64, 64), 1000)) == PUBLISHED[name]
    assert count(on_meta(name, (3, 64, 64), 10, small=True)) == parameters
    kept = on_meta(name, (3, 224, 224), 10, small=True)
    assert kept(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 10)


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet50"])
def test_small_variants_train(name: str) -> None:
    torch.manual_seed(0)
    model = models.create(name, {}, (3, 32, 32), 10)
    loss = nn.functional.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.tensor([3, 7]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(10), abs=0.5)  # equal chances: the first steps do not diverge
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), key


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (224, [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]),
        (32, [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)]),
    ],
)
def test_stages_of_a_residual_network_are_there_for_a_pyramid(side: int, expected: list[tuple[int, ...]]) -> None:
    model, found = on_meta("resnet50", (3, side, side)), []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda _, __, output: found.append(tuple(output.shape[1:])))
    model(torch.empty(1, 3, side, side, device="meta"))
    assert found == expected


def test_parameters_are_named_as_in_torchvision() -> None:
    names = {
        "alexnet": (16, ["features.0.weight", "features.10.bias", "classifier.1.weight", "classifier.6.bias"]),
        "vgg16": (32, ["features.0.weight", "features.28.bias", "classifier.0.weight", "classifier.6.bias"]),
        "vgg19": (38, ["features.0.weight", "features.34.bias", "classifier.3.weight", "classifier.6.bias"]),
        "resnet50": (
            320,
            [
                "conv1.weight",
                "bn1.running_var",
                "layer1.0.downsample.0.weight",
                "layer1.0.downsample.1.num_batches_tracked",
                "layer3.5.bn3.bias",
                "layer4.2.conv3.weight",
                "fc.weight",
                "fc.bias",
            ],
        ),
        "resnet152": (932, ["layer2.7.conv2.weight", "layer3.35.bn1.running_mean", "layer4.0.downsample.0.weight"]),
    }
    for name, (entries, keys) in names.items():
        state = on_meta(name).state_dict()
        assert len(state) == entries
        assert set(keys) <= set(state)


def test_flops_of_the_simple_cnn_by_hand() -> None:
    (cost,) = survey("simple-cnn")
    by_hand = 26 * 26 * 32 * 9 * 1 + 24 * 24 * 64 * 9 * 32 + 9216 * 128 + 128 * 10
    assert cost.flops == 2 * by_hand == 23_984_896
    assert (cost.parameters, cost.bytes) == (1_199_882, 4_799_528)


@pytest.mark.parametrize(
    ("name", "args", "shape", "words"),
    [
        ("alexnet", {}, (3, 14, 14), "sides >= 15"),
        ("alexnet", {"small": False}, (3, 32, 32), "small = false.*sides >= 63"),
        ("alexnet", {"small": "yes"}, (3, 32, 32), "small = 'yes' must be true or false"),
        ("vgg16", {}, (1, 28, 28), r"vgg16 needs images .* sides >= 32, not \(1, 28, 28\)"),
        ("vgg19", {}, (784,), r"vgg19 needs images .*not \(784,\)"),
        ("resnet50", {"classes": 0}, (3, 32, 32), "classes = 0 must be a positive whole number"),
        ("resnet152", {"classes": "ten"}, (3, 32, 32), "classes = 'ten'"),
        ("resnet56", {"shape": [3, 2, 2]}, None, r"sides >= 4, not \(3, 2, 2\)"),
        ("unet", {}, (97, 145, 174), "sides >= 16 that 16 divides"),
        ("dualnet", {"shape": "3x32x32"}, None, "not 3x32x32"),
        ("dualnet", {"shape": [3, 32, 32.5]}, None, "32.5"),
    ],
)
def test_refusals(name: str, args: dict[str, object], shape: tuple[int, ...] | None, words: str) -> None:
    with pytest.raises(TrainError, match=words):
        models.create(name, args, shape)


@pytest.mark.parametrize(
    ("name", "side"), [("alexnet", 15), ("vgg16", 32), ("resnet50", 8), ("unet", 16), ("dualnet", 8)]
)
def test_the_smallest_images_that_are_taken_work(name: str, side: int) -> None:
    output = on_meta(name, (1, side, side), 4)(torch.empty(2, 1, side, side, device="meta"))
    assert output.shape[:2] == (2, 4)


def test_the_smallest_images_without_the_small_variant_work() -> None:
    assert on_meta("alexnet", (3, 63, 63), 10, small=False)(torch.empty(2, 3, 63, 63, device="meta")).shape == (2, 10)
