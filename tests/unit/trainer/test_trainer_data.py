"""Data sets: true formats come back as they are, damaged files are named with the offset."""

import pickle
from pathlib import Path

import image_files
import numpy as np
import pytest
import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import data
from hpcsynapse.trainer.data import cifar10, mnist
from hpcsynapse.trainer.data.augment import crop_and_flip


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


def test_digits_equal_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    from hpcsynapse.trainer.data.digits import _read

    pixels, labels = _read()
    assert np.array_equal(pixels, datasets.load_digits().data)
    assert np.array_equal(labels, datasets.load_digits().target)


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("folder", [".", "cifar-10-batches-x"])
def test_cifar10(tmp_path, version, folder) -> None:
    root = tmp_path / folder.replace("x", "bin" if version == "binary" else "py")
    root.mkdir(exist_ok=True)
    write = image_files.write_cifar_binary if version == "binary" else image_files.write_cifar_python
    suffix = ".bin" if version == "binary" else ""
    parts = [image_files.cifar_arrays(20, seed) for seed in range(6)]
    for number, (images, labels) in enumerate(parts[:5], 1):
        write(root / f"data_batch_{number}{suffix}", images, labels)
    write(root / f"test_batch{suffix}", *parts[5])
    found = data.load("cifar10", str(tmp_path), {})
    assert (len(found.train), len(found.validation), found.shape, found.classes) == (100, 20, (3, 32, 32), 10)
    assert np.array_equal(found.train.labels.numpy(), np.concatenate([labels for _, labels in parts[:5]]))
    assert np.array_equal(found.validation.images.numpy().reshape(20, -1), parts[5][0])
    images, _ = all_of(found.train)
    assert torch.allclose(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(images.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3)


def test_cifar10_python_3_pickle(tmp_path) -> None:
    images, labels = image_files.cifar_arrays(5, 0)
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
    images, labels = image_files.cifar_arrays(4, 0)
    binary, python = tmp_path / "data_batch_1.bin", tmp_path / "data_batch_1"
    image_files.write_cifar_binary(binary, images, labels)
    whole = binary.read_bytes()
    binary.write_bytes(whole[:-5])
    with pytest.raises(TrainError, match=r"data_batch_1\.bin: the record at offset 9219 is incomplete"):
        cifar10.read_binary(binary)
    binary.write_bytes(whole[: 2 * 3073] + b"\x0b" + whole[2 * 3073 + 1 :])
    with pytest.raises(TrainError, match="label 11 at offset 6146"):
        cifar10.read_binary(binary)
    binary.write_bytes(b"")
    with pytest.raises(TrainError, match="offset 0"):
        cifar10.read_binary(binary)
    image_files.write_cifar_python(python, images, labels)
    python.write_bytes(python.read_bytes()[:500])
    with pytest.raises(TrainError, match=r"data_batch_1: not a batch of the Python version, at offset \d+"):
        cifar10.read_python(python)
    python.write_bytes(pickle.dumps({b"data": Harmful(), b"labels": []}, protocol=2))
    with pytest.raises(TrainError, match=r"eval does not belong"):
        cifar10.read_python(python)
    assert not (tmp_path / "harm").exists()
    python.write_bytes(pickle.dumps({b"data": images.astype(float), b"labels": [1] * 4}, protocol=2))
    with pytest.raises(TrainError, match="instead of bytes"):
        cifar10.read_python(python)
    with pytest.raises(TrainError, match="neither data_batch_1"):
        data.load("cifar10", str(tmp_path / ".."), {})


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist(tmp_path, suffix) -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 30), ("t10k", 10)):
        arrays[part] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8), random.integers(0, 10, count, np.uint8)
        image_files.write_idx(tmp_path / f"{part}-images-idx3-ubyte{suffix}", arrays[part][0])
        image_files.write_idx(tmp_path / f"{part}-labels-idx1-ubyte{suffix}", arrays[part][1])
    found = data.load("mnist", str(tmp_path), {})
    assert (len(found.train), len(found.validation), found.shape) == (30, 10, (1, 28, 28))
    assert np.array_equal(found.train.images.numpy()[:, 0], arrays["train"][0])
    assert np.array_equal(found.validation.labels.numpy(), arrays["t10k"][1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08", "ends at offset 3"),
        (b"\0\0\x0d\x01\0\0\0\x01\x05", "offset 0"),
        (image_files.idx(np.zeros(5, np.uint8))[:-1], "ask for 13 bytes, the file holds 12"),
        (image_files.idx(np.zeros(5, np.uint8)) + b"x", "the file holds 14"),
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
    image_files.write_idx(file, np.zeros(500, np.uint8))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(TrainError, match="cannot be read"):
        mnist.read_idx(file, 1)


def test_npy(tmp_path) -> None:
    inputs, targets = np.random.default_rng(0).standard_normal((20, 3, 4)), np.arange(20) % 4
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "targets.npy", targets)
    found = data.load("npy", str(tmp_path), {})
    assert isinstance(found.train.inputs, np.memmap)
    assert (found.shape, found.classes, found.validation, found.sharding) == ((3, 4), 4, None, "contiguous")
    x, y = found.train.batch(np.array([3, 17]))
    assert x.dtype == torch.float32
    assert y.tolist() == [3, 1]
    assert np.allclose(x.numpy(), inputs[[3, 17]])
    np.save(tmp_path / "regress.npy", inputs[:, :, :1])
    found = data.load("npy", str(tmp_path), {"targets": "regress.npy", "val_inputs": "inputs.npy",
                                             "val_targets": "regress.npy"})  # fmt: skip
    assert found.classes is None
    assert found.validation.batch(np.array([1]))[1].dtype == torch.float32


def test_damaged_npy(tmp_path) -> None:
    with pytest.raises(TrainError, match=r"inputs\.npy does not exist"):
        data.load("npy", str(tmp_path), {})
    np.save(tmp_path / "inputs.npy", np.zeros((20, 3)))
    np.save(tmp_path / "targets.npy", np.zeros(19))
    with pytest.raises(TrainError, match="19 targets"):
        data.load("npy", str(tmp_path), {})
    whole = (tmp_path / "inputs.npy").read_bytes()
    for content in (whole[:40], whole[:-8], b"", b"no numbers", pickle.dumps([1])):
        (tmp_path / "inputs.npy").write_bytes(content)
        with pytest.raises(TrainError, match=r"inputs\.npy: not a whole \.npy file"):
            data.load("npy", str(tmp_path), {})
    np.save(tmp_path / "inputs.npy", np.array(["a", "b"]))
    with pytest.raises(TrainError, match="are not numbers"):
        data.load("npy", str(tmp_path), {})


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
    assert set(data.DATA) == {"digits", "cifar10", "mnist", "npy", "synthetic"}


def test_a_rank_touches_only_its_own_part_of_a_mapped_file(tmp_path) -> None:
    """Of 4 MiB on 4 ranks, 1 MiB is mapped into memory (and at most two blocks that the kernel reads ahead)."""
    from hpcsynapse.trainer.data.sharding import Shards

    file = tmp_path / "inputs.npy"
    np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(64, 16384)).flush()
    np.save(tmp_path / "targets.npy", np.arange(64) % 2)
    found = data.load("npy", str(tmp_path), {})

    def resident() -> int:
        """Return the KiB of the file that this process has touched (proc(5), smaps)."""
        inside, total = False, 0
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if "-" in line.split()[0]:
                inside = line.endswith(str(file))
            elif inside and line.startswith("Rss:"):
                total += int(line.split()[1])
        return total

    before = resident()
    shards = Shards(64, 4, rank=1, ranks=4, seed=0, mode=found.sharding)
    for step in range(shards.steps):
        found.train.batch(shards.indices(0, step))
    assert 1024 <= resident() - before <= 1024 + 128
