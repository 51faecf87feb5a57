"""Pictures in folders and in tar files, and arrays in HDF5: what a batch holds, and what is wrong with a file."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from hpcsynapse.errors import TrainError
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer import data
from hpcsynapse.trainer.data.loader import BatchLoader
from hpcsynapse.trainer.data.pictures import Form
from hpcsynapse.trainer.data.sharding import Shards

PLAIN = {"mean": [0, 0, 0], "deviation": [1, 1, 1]}


def picture(color: int, width: int = 12, height: int = 9, form: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height), (color, 0, 255) if mode == "RGB" else color).save(file, form)
    return file.getvalue()


def folders(root: Path, parts: dict[str, list[bytes]]) -> Path:
    for name, pictures in parts.items():
        (root / name).mkdir(parents=True)
        for number, content in enumerate(pictures):
            (root / name / f"{number}.png").write_bytes(content)
    return root


def archive(file: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(file, "w") as made:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            made.addfile(about, io.BytesIO(content))


def array(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


def load(name: str, path: Path, **args: Any) -> data.Data:
    return data.load(name, str(path), args)


def test_classes_are_folders(tmp_path: Path) -> None:
    folders(tmp_path, {"train/dog": [picture(0), picture(51)], "train/cat": [picture(255)], "val/dog": [picture(102)]})
    (tmp_path / "train" / "dog" / "notes.txt").write_text("no picture")
    found = load("images", tmp_path, size=8, **PLAIN)
    assert (found.names, found.classes, found.shape, len(found.train)) == (("cat", "dog"), 2, (3, 8, 8), 3)
    inputs, labels = found.train.batch(np.array([2, 0]))
    assert labels.tolist() == [1, 0]
    assert inputs[0, :, 3, 3].tolist() == pytest.approx([51 / 255, 0, 1])
    assert found.validation is not None and found.validation.batch(np.array([0]))[1].tolist() == [1]


def test_any_size_and_mode_becomes_one_form() -> None:
    form = Form(8, resize=10)
    for width, height, mode in ((40, 9, "RGB"), (3, 30, "L"), (8, 8, "P"), (1, 1, "RGBA")):
        content = io.BytesIO()
        Image.new(mode, (width, height)).save(content, "PNG")
        found = form.read(content.getvalue(), "x")
        assert found.shape == (3, 8, 8) and found.dtype == torch.float32
        torch.testing.assert_close(found[0], torch.full((8, 8), -0.485 / 0.229))


def test_the_middle_is_cut_out() -> None:
    """Left half black, right half white: so is what is cut out, and mirrored it is the other way round."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    found = Form(16, resize=20, mean=[0] * 3, deviation=[1] * 3).read(file.getvalue(), "x")
    assert found[0, :, :7].max() == 0 and found[0, :, 9:].min() == 1


def test_random_parts_are_those_of_the_step(tmp_path: Path) -> None:
    """The same from processes and without; and not in what is set aside for validation."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    folders(tmp_path, {"a": [file.getvalue()] * 4, "b": [file.getvalue()] * 4})
    found = load("images", tmp_path, size=8, random_crop=True)
    batches = {}
    for workers in (0, 1):
        loader = BatchLoader(found.train, TrainSpec(data_workers=workers, batch=4), 0, torch.device("cpu"))
        loader.begin(Shards(8, 4, rank=0, ranks=1, seed=0).tasks(0, 0, 0, 2))
        batches[workers] = [loader.take()[0] for _ in range(2)]
        loader.close()
    assert all(torch.equal(one, other) for one, other in zip(batches[0], batches[1], strict=True))
    assert not torch.equal(batches[0][0][0], batches[0][0][1])
    plain = found.train.plain.batch(np.arange(2))[0]
    assert torch.equal(plain[0], plain[1])


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "has no folders"),
        ({"a": []}, "no pictures"),
        ({"a": [picture(1)[:40]]}, "0.png: is no picture"),
        ({"a": [b"text"]}, "0.png: is no picture"),
        ({"train/a": [picture(1)], "val/b": [picture(1)]}, "class 'b'"),
    ],
)
def test_folders_that_are_wrong(tmp_path: Path, parts: dict[str, list[bytes]], words: str) -> None:
    folders(tmp_path, parts)
    with pytest.raises(TrainError, match=words):
        load("images", tmp_path, size=8).train.batch(np.array([0]))


def test_samples_of_tar_files(tmp_path: Path) -> None:
    """In any order, from several files, without an open file that processes would share."""
    for number in range(2):
        members: dict[str, bytes] = {}
        for sample in range(3):
            key = f"part/{number}{sample}"
            members[f"{key}.cls"] = str(number * 3 + sample).encode()
            members[f"{key}.png"] = picture(10 * (number * 3 + sample))
            members[f"{key}.json"] = b"{}"
        archive(tmp_path / f"train-{number}.tar", members)
    archive(tmp_path / "val-0.tar", {"a.png": picture(7), "a.cls": b"1\n"})
    found = load("shards", tmp_path, size=8, **PLAIN)
    assert (len(found.train), found.classes, found.shape, found.sharding) == (6, 6, (3, 8, 8), "contiguous")
    inputs, labels = found.train.batch(np.array([4, 1, 5]))
    assert labels.tolist() == [4, 1, 5]
    assert (inputs[:, 0, 2, 2] * 255).round().tolist() == [40, 10, 50]
    assert found.validation is not None and found.validation.batch(np.array([0]))[1].tolist() == [1]


def test_arrays_in_tar_files(tmp_path: Path) -> None:
    archive(tmp_path / "a.tar", {"0.npy": array([[1.5, 2]]), "0.cls": b"0", "1.npy": array([[3, 4]]), "1.cls": b"1"})
    found = load("shards", tmp_path)
    assert (found.shape, found.classes, found.validation) == ((1, 2), 2, None)
    assert found.train.batch(np.array([1, 0]))[0].tolist() == [[[3, 4]], [[1.5, 2]]]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.png": picture(1)}, "sample a has png; one picture or .npy and a .cls"),
        ({"a.png": picture(1), "a.jpg": picture(1), "a.cls": b"0"}, "sample a has png, jpg, cls"),
        ({"a.png": picture(1), "a.cls": b"dog"}, "a.cls: b'dog' is no label"),
        ({"a.npy": b"nothing", "a.cls": b"0"}, "a.npy: is no array"),
        ({}, "hold no samples"),
    ],
)
def test_tar_files_that_are_wrong(tmp_path: Path, members: dict[str, bytes], words: str) -> None:
    archive(tmp_path / "train.tar", members)
    with pytest.raises(TrainError, match=words):
        load("shards", tmp_path, size=8)


def test_a_file_that_is_no_tar_or_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(TrainError, match="no plain tar file"):
        load("shards", tmp_path)
    archive(tmp_path / "a.tar", {"0.npy": array(np.zeros(4000)), "0.cls": b"0"})
    found = load("shards", tmp_path)
    os.truncate(tmp_path / "a.tar", 8000)
    with pytest.raises(TrainError, match=r"ends within 0\.npy"):
        found.train.batch(np.array([0]))


def test_no_tar_files(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="has no tar files"):
        load("shards", tmp_path)


def test_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["inputs"] = np.arange(24, dtype="uint8").reshape(4, 2, 3)
        file["targets"] = np.array([0, 2, 1, 2])
        file["val_inputs"], file["val_targets"] = np.ones((1, 2, 3)), np.array([1])
        file["numbers"] = np.array([0.5, 1.5, 2.5, 3.5])
        file["words"] = np.array([b"a", b"b"])
    found = load("hdf5", tmp_path)
    assert (found.shape, found.classes, len(found.train)) == ((2, 3), 3, 4)
    inputs, labels = found.train.batch(np.array([3, 0, 3]))
    assert inputs[:, 0, 0].tolist() == [18, 0, 18] and labels.tolist() == [2, 0, 2]
    assert inputs.dtype == torch.float32 and labels.dtype == torch.int64
    assert found.validation is not None and len(found.validation) == 1
    numbers = load("hdf5", tmp_path, targets="numbers")
    assert numbers.classes is None and numbers.train.batch(np.array([1]))[1].tolist() == [1.5]
    for args, words in (
        ({"inputs": "absent"}, "absent"),
        ({"inputs": "words"}, "words is no array of numbers"),
        ({"targets": "val_targets"}, "4 inputs and 1 val_targets"),
        ({"file": "other.h5"}, "other.h5: cannot be read"),
    ):
        with pytest.raises(TrainError, match=words):
            load("hdf5", tmp_path, **args)
