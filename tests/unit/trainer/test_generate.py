"""Generated data sets: in the true formats, of real digits, the same bytes for the same seed."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from hpcsynapse.trainer import data
from hpcsynapse.trainer.data import digits, generate

VOLUMES = {"scale": "sample", "channels_last": True, "pad": [32, 32]}


@pytest.mark.parametrize(
    ("name", "shape", "files"),
    [
        ("cifar10", (3, 32, 32), {*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"}),
        ("cifar10-python", (3, 32, 32), {*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"}),
        (
            "mnist",
            (1, 28, 28),
            {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"},
        ),
        (
            "mnist-gz",
            (1, 28, 28),
            {
                "train-images-idx3-ubyte.gz",
                "train-labels-idx1-ubyte.gz",
                "t10k-images-idx3-ubyte.gz",
                "t10k-labels-idx1-ubyte.gz",
            },
        ),
        ("npy", (12, 32, 32), {"inputs.npy", "targets.npy", "val_inputs.npy", "val_targets.npy"}),
    ],
)
def test_every_format_is_read_back(tmp_path: Path, name: str, shape: tuple[int, ...], files: set[str]) -> None:
    sums = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        generate.main([name, str(folder), "--samples", "62", "--seed", "3"])
        assert {file.name for file in folder.iterdir()} == files
        sums.append({file.name: hashlib.sha256(file.read_bytes()).digest() for file in folder.iterdir()})
    assert sums[0] == sums[1]
    found = data.load(name.partition("-")[0], str(tmp_path / "a"), VOLUMES if name == "npy" else {})
    assert (len(found.train), len(found.validation), found.shape) == (52, 10, shape)
    inputs, targets = found.train.batch(np.arange(52))
    assert inputs.shape == (52, *shape)
    assert len(targets) == 52


def test_pictures_are_the_real_digits(tmp_path: Path) -> None:
    """Shrunk again, every picture is the nearest to one of the 1797, of its label."""
    generate.main(["mnist", str(tmp_path), "--samples", "60"])
    found = data.load("mnist", str(tmp_path), {}).train
    pixels, labels = digits.read()
    small = found.images.float().reshape(-1, 1, 28, 28)
    small = generate.functional.interpolate(small, size=(8, 8), mode="area").flatten(1).numpy() / 255 * 16
    nearest = ((small[:, None] - pixels[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(labels[nearest], found.labels.numpy())
    assert len(set(nearest)) == len(nearest)


def test_the_python_version_is_what_python_2_wrote() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    content = generate.cifar_python(images, np.array([1, 0, 9], dtype=np.uint8), "testing batch 1 of 1")
    assert content.startswith(b"\x80\x02}") and b"cnumpy.core.multiarray\n_reconstruct\n" in content
    table = pickle.loads(content, encoding="bytes")
    assert table.keys() == {b"batch_label", b"labels", b"data", b"filenames"}
    assert (table[b"labels"], table[b"batch_label"]) == ([1, 0, 9], b"testing batch 1 of 1")
    assert table[b"data"].dtype == np.uint8 and np.array_equal(table[b"data"], images)


def test_too_few_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        generate.main(["npy", str(tmp_path / "x"), "--samples", "3"])
    assert "--samples 3 must be at least 12" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
