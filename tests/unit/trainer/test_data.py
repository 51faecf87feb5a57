"""Data sets: true formats come back as they are, damaged files are named with the offset."""

import gzip
import pickle

import numpy as np
import pytest
import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import data
from hpcsynapse.trainer.data import cifar10, generate, mnist
from hpcsynapse.trainer.data.augment import crop_and_flip


def cifar_arrays(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), random.integers(0, 10, count).astype(np.uint8)


def all_of(dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return dataset.batch(np.arange(len(dataset), dtype=np.int64))


def test_digits() -> None:
    digits = data.load("digits", None, {})
    images, labels = all_of(digits.train)
    assert images.shape == (1437, 1, 28, 28)
    assert digits.shape == (1, 28, 28)
    assert len(digits.validation) == 360
    assert np.ptp(np.bincount(digits.validation.labels.numpy())) <= 4  # stratified
    assert abs(float(images.mean())) < 1e-4
    assert float(images.std()) == pytest.approx(1, abs=1e-3)
    again = data.load("digits", None, {"size": 8})
    assert torch.equal(labels, all_of(again.train)[1])
    assert again.shape == (1, 8, 8)


@pytest.mark.slow
def test_digits_equal_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    from hpcsynapse.trainer.data.digits import read

    pixels, labels = read()
    assert np.array_equal(pixels, datasets.load_digits().data)
    assert np.array_equal(labels, datasets.load_digits().target)


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("folder", [".", "cifar-10-batches-x"])
def test_cifar10(tmp_path, version, folder) -> None:
    root = tmp_path / folder.replace("x", "bin" if version == "binary" else "py")
    root.mkdir(exist_ok=True)
    content = generate.cifar_binary if version == "binary" else generate.cifar_python
    suffix = ".bin" if version == "binary" else ""
    parts = [cifar_arrays(20, seed) for seed in range(6)]
    for number, (images, labels) in enumerate(parts[:5], 1):
        (root / f"data_batch_{number}{suffix}").write_bytes(content(images, labels))
    (root / f"test_batch{suffix}").write_bytes(content(*parts[5]))
    found = data.load("cifar10", str(tmp_path), {})
    assert (len(found.train), len(found.validation), found.shape, found.classes) == (100, 20, (3, 32, 32), 10)
    assert np.array_equal(found.train.labels.numpy(), np.concatenate([labels for _, labels in parts[:5]]))
    assert np.array_equal(found.validation.images.numpy().reshape(20, -1), parts[5][0])
    images, _ = all_of(found.train)
    assert torch.allclose(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(images.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3)


def test_cifar10_python_3_pickle(tmp_path) -> None:
    images, labels = cifar_arrays(5, 0)
    file = tmp_path / "data_batch_1"
    for protocol in (2, 4):
        file.write_bytes(pickle.dumps({b"data": images, b"labels": labels.tolist()}, protocol=protocol))
        found, _ = cifar10.read_python(file)
        assert np.array_equal(found.reshape(5, -1), images)


class Harmful:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('harm').touch()",)


def test_damaged_cifar10(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = cifar_arrays(4, 0)
    binary, python = tmp_path / "data_batch_1.bin", tmp_path / "data_batch_1"
    whole = generate.cifar_binary(images, labels)
    binary.write_bytes(whole[:-5])
    with pytest.raises(TrainError, match=r"data_batch_1\.bin: the record at offset 9219 is incomplete"):
        cifar10.read_binary(binary)
    binary.write_bytes(whole[: 2 * 3073] + b"\x0b" + whole[2 * 3073 + 1 :])
    with pytest.raises(TrainError, match="label 11 at offset 6146"):
        cifar10.read_binary(binary)
    binary.write_bytes(b"")
    with pytest.raises(TrainError, match="offset 0"):
        cifar10.read_binary(binary)
    python.write_bytes(generate.cifar_python(images, labels)[:500])
    with pytest.raises(TrainError, match=r"data_batch_1: not a batch of the Python version, at offset \d+"):
        cifar10.read_python(python)
    python.write_bytes(pickle.dumps({b"data": Harmful(), b"labels": []}, protocol=2))
    with pytest.raises(TrainError, match=r"eval does not belong"):
        cifar10.read_python(python)
    assert not (tmp_path / "harm").exists()
    python.write_bytes(pickle.dumps({b"data": images.astype(float), b"labels": [1] * 4}, protocol=2))
    with pytest.raises(TrainError, match="instead of bytes"):
        cifar10.read_python(python)
    for labels, reason in (
        ([1] * 3, "4 images, but 3 labels"),
        ([1, 2, 3, "4"], "whole numbers"),
        ([0, 0, 0, 10], "label 10 of image 3"),
        (Harmful(), "eval"),
    ):
        python.write_bytes(pickle.dumps({b"data": images, b"labels": labels}, protocol=2))
        with pytest.raises(TrainError, match=f"data_batch_1: .*{reason}"):
            cifar10.read_python(python)
    with pytest.raises(TrainError, match="neither data_batch_1"):
        data.load("cifar10", str(tmp_path / ".."), {})


def test_any_damage_of_a_pickled_batch_is_a_trainer_error(tmp_path) -> None:
    """Bytes changed at random are an error that names the file, or a batch of the same form with other figures."""
    file, whole = tmp_path / "data_batch_1", generate.cifar_python(*cifar_arrays(2, 0))
    random = np.random.default_rng(0)
    structure = [*range(400), *range(len(whole) - 120, len(whole))]  # else nearly all would be pixels
    refused = 0
    for _ in range(400):
        content = bytearray(whole)
        for place in random.choice(structure, random.integers(1, 4)):
            content[place] = random.integers(256)
        file.write_bytes(content)
        try:
            images, labels = cifar10.read_python(file)
            assert images.shape[1:] == (3, 32, 32) and len(images) == len(labels) > 0
        except TrainError as error:
            refused += 1
            assert str(file) in str(error)
    assert refused > 100


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist(tmp_path, suffix) -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 30), ("t10k", 10)):
        arrays[part] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8), random.integers(0, 10, count, np.uint8)
        for name, array in zip(("images-idx3", "labels-idx1"), arrays[part], strict=True):
            content = generate.idx(array)
            (tmp_path / f"{part}-{name}-ubyte{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    found = data.load("mnist", str(tmp_path), {})
    assert (len(found.train), len(found.validation), found.shape) == (30, 10, (1, 28, 28))
    assert np.array_equal(found.train.images.numpy()[:, 0], arrays["train"][0])
    assert np.array_equal(found.validation.labels.numpy(), arrays["t10k"][1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08", "ends at offset 3"),
        (b"\0\0\x0d\x01\0\0\0\x01\x05", "offset 0"),
        (generate.idx(np.zeros(5, np.uint8))[:-1], "ask for 13 bytes, the file holds 12"),
        (generate.idx(np.zeros(5, np.uint8)) + b"x", "the file holds 14"),
    ],
)
def test_damaged_idx(tmp_path, content, message) -> None:
    file = tmp_path / "train-labels-idx1-ubyte"
    file.write_bytes(content)
    with pytest.raises(TrainError, match=message) as caught:
        mnist.read_idx(file, 1)
    assert str(file) in str(caught.value)


def test_damaged_gzip(tmp_path) -> None:
    file = tmp_path / "train-labels-idx1-ubyte.gz"
    whole = gzip.compress(generate.idx(np.random.default_rng(0).integers(0, 10, 500, np.uint8)))
    for damaged, reason in (
        (whole[:-9], f"damaged before offset {len(whole) - 9}: .*ended before"),
        (whole[:40] + b"\xff" * 8 + whole[48:], rf"damaged before offset {len(whole)}: "),
        (b"no gzip at all", "damaged before offset 2: .*gzip"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(TrainError, match=reason):
            mnist.read_idx(file, 1)


def test_synthetic_depends_on_the_number_alone() -> None:
    first, second = (data.load("synthetic", None, {"shape": [2, 5], "samples": 1000, "classes": 3}) for _ in range(2))
    assert torch.equal(first.train.batch(np.array([7, 900]))[0], second.train.batch(np.array([900, 7]))[0].flip(0))
    assert first.train.batch(np.array([7]))[1].tolist() == [1]
    assert first.shape == (2, 5)


def test_users_data(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine_data.py").write_text(
        "import torch\ndef load(path, n=4):\n    return [(torch.full((2,), float(i)), i) for i in range(n)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = data.load("mine_data:load", "x", {"n": 6})
    x, y = found.train.batch(np.array([5, 2]))
    assert x.tolist() == [[5, 5], [2, 2]]
    assert y.tolist() == [5, 2]


def test_refusals() -> None:
    with pytest.raises(TrainError, match="did you mean 'digits'"):
        data.load("digit", None, {})
    with pytest.raises(TrainError, match="data_path"):
        data.load("cifar10", None, {})
    with pytest.raises(TrainError, match="is not a folder"):
        data.load("mnist", "/nonexistent", {})
    with pytest.raises(TrainError, match="sides"):
        data.load("digits", None, {"sides": 3})


def test_augmentation_shifts_and_mirrors() -> None:
    images = torch.arange(64 * 3 * 8 * 8, dtype=torch.float32).reshape(64, 3, 8, 8) + 1
    found = crop_and_flip(images, (0, 1, 2))
    assert torch.equal(found, crop_and_flip(images, (0, 1, 2)))
    assert not torch.equal(found, crop_and_flip(images, (0, 1, 3)))
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    mirrored = 0
    for index in range(64):
        crops = [padded[index, :, r : r + 8, c : c + 8] for r in range(9) for c in range(9)]
        plain = any(torch.equal(found[index], crop) for crop in crops)
        mirrored += not plain
        assert plain or any(torch.equal(found[index], crop.flip(2)) for crop in crops)
    assert 16 < mirrored < 48


def test_table_is_complete() -> None:
    assert set(data.DATA) == {
        "digits",
        "cluttered-digits",
        "cifar10",
        "mnist",
        "npy",
        "images",
        "shards",
        "hdf5",
        "tokens",
        "synthetic",
    }


@pytest.mark.parametrize("name", ["digits", "cluttered-digits", "synthetic"])
def test_the_table_knows_how_many_samples_there_are(name: str) -> None:
    assert data.DATA[name].samples == len(data.load(name, None, {}).train)
