"""Memory-mapped volumes: their form, damaged files, and that a rank reads its own samples alone."""

import ctypes
import faulthandler
import mmap
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import data
from hpcsynapse.trainer.data import npy
from hpcsynapse.trainer.data.base import Data
from hpcsynapse.trainer.data.sharding import Shards, chunk

RANDOM = np.random.default_rng(0)


def write(folder: Path, inputs: np.ndarray, targets: np.ndarray) -> str:
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "targets.npy", targets)
    return str(folder)


def test_npy(tmp_path: Path) -> None:
    inputs, targets = RANDOM.standard_normal((20, 3, 4)), np.arange(20) % 4
    found = data.load("npy", write(tmp_path, inputs, targets), {})
    assert isinstance(found.train.inputs, npy.MappedFile)
    assert (found.shape, found.classes, found.validation, found.sharding) == ((3, 4), 4, None, "contiguous")
    x, y = found.train.batch(np.array([3, 17]))
    assert x.dtype == torch.float32
    assert y.tolist() == [3, 1]
    assert np.allclose(x.numpy(), inputs[[3, 17]])
    np.save(tmp_path / "regress.npy", inputs[:, :, :1])
    found = data.load(
        "npy", str(tmp_path), {"targets": "regress.npy", "val_inputs": "inputs.npy", "val_targets": "regress.npy"}
    )
    assert found.classes is None
    assert found.validation.batch(np.array([1]))[1].dtype == torch.float32


@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f2", "<i4", "|u1"])
def test_every_kind_of_number(tmp_path: Path, kind: str) -> None:
    inputs = RANDOM.integers(0, 100, (4, 5)).astype(kind)
    for args in ({}, {"mean": 10, "deviation": 2.0}):
        found, _ = data.load("npy", write(tmp_path, inputs, np.zeros(4)), args).train.batch(np.arange(4))
        wanted = (inputs.astype(float) - args.get("mean", 0)) / args.get("deviation", 1)
        assert np.allclose(found.numpy(), wanted)


def test_the_form_of_the_brain_imaging_source(tmp_path: Path) -> None:
    """(n, 174, 145, 97) becomes (n, 97, 192, 192), every sample of zero mean and unit variance before its border."""
    inputs = RANDOM.normal(5, 3, (2, 174, 145, 97))
    inputs[1] = 7.0  # an empty slice
    targets, labels = RANDOM.random((2, 174, 145, 1)), RANDOM.integers(1, 3, (2, 174, 145))
    args = {"scale": "sample", "channels_last": True, "pad": [192, 192]}
    found = data.load("npy", write(tmp_path, inputs, targets), args)
    assert found.shape == (97, 192, 192)
    x, y = found.train.batch(np.array([0, 1]))
    assert (x.shape, y.shape) == ((2, 97, 192, 192), (2, 1, 192, 192))
    inner = x[:, :, 9:183, 23:168].double()
    assert float(inner[0].mean()) == pytest.approx(0, abs=1e-6)
    assert float(inner[0].std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert not x[1].any()
    assert float(x.double().pow(2).sum()) == pytest.approx(float(inner.pow(2).sum()))  # all else is zero
    scaled = (inputs[0] - inputs[0].mean()) / inputs[0].std()
    assert np.allclose(inner[0].numpy(), np.moveaxis(scaled, -1, 0), atol=1e-6)
    assert np.allclose(y[0, 0, 9:183, 23:168], targets[0, :, :, 0])
    assert float(y.sum()) == pytest.approx(targets.sum(), rel=1e-5)
    np.save(tmp_path / "targets.npy", labels)
    _, y = data.load("npy", str(tmp_path), args).train.batch(np.array([0, 1]))
    assert (y.shape, y.dtype) == ((2, 192, 192), torch.int64)
    assert np.array_equal(y[:, 9:183, 23:168], labels)
    assert int(y.sum()) == labels.sum()


def test_statistics_of_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = RANDOM.normal(1e4, 3, (7, 11, 5))
    write(tmp_path, inputs, np.zeros(7))
    monkeypatch.setattr(npy, "_BLOCK", 120)  # two samples at once, and one in the end
    assert npy.statistics(tmp_path / "inputs.npy") == pytest.approx((inputs.mean(), inputs.std()), rel=1e-12)
    printed = npy.main([str(tmp_path / "inputs.npy")])
    args = {name: float(figure) for name, figure in (line.split("=") for line in printed.splitlines())}
    x, _ = data.load("npy", str(tmp_path), args).train.batch(np.arange(7))
    assert float(x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"scale": "all"}, "scale = 'all' is not one of none, sample"),
        ({"mean": 1.0}, "go together"),
        ({"mean": 1.0, "deviation": 1.0, "scale": "sample"}, "go together"),
        ({"mean": "1", "deviation": 1.0}, "must be numbers"),
        ({"mean": 1.0, "deviation": 0}, "must be positive"),
        ({"pad": [4, 8]}, r"pad = \[4, 8\] must be a height and width of at least \(5, 6\)"),
        ({"pad": 8}, "pad = 8 must be"),
        ({"pad": ["8", 8]}, "must be a height"),
        ({"padding": 3}, "padding"),
    ],
)
def test_refused_forms(tmp_path: Path, args: dict, reason: str) -> None:
    with pytest.raises(TrainError, match=reason):
        data.load("npy", write(tmp_path, np.zeros((3, 2, 5, 6)), np.zeros(3)), args)


def test_a_form_for_images_alone(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"for images with channels, not \(5,\)"):
        data.load("npy", write(tmp_path, np.zeros((3, 5)), np.zeros(3)), {"channels_last": True})


def test_damaged_npy(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"inputs\.npy does not exist"):
        data.load("npy", str(tmp_path), {})
    write(tmp_path, np.zeros((20, 3)), np.zeros(19))
    with pytest.raises(TrainError, match="19 targets"):
        data.load("npy", str(tmp_path), {})
    file = tmp_path / "inputs.npy"
    whole = file.read_bytes()
    for content, reason in (
        (whole[:40], "offset 8: not a .npy file"),
        (whole[:-8], "ends at offset 600; its header at offset 8 asks for 608 bytes"),
        (b"", "offset 0: not a .npy file"),
        (b"no numbers", "offset 0: not a .npy file"),
        (pickle.dumps([1]), "offset 0: not a .npy file"),
        (whole[:6] + b"\x07" + whole[7:], "offset 6: version|offset 0: not a .npy"),
        (whole.replace(b"(20, 3)", b"(0, 33)"), "holds no samples"),
        (whole.replace(b"False", b"True "), "Fortran order"),
    ):
        file.write_bytes(content)
        with pytest.raises(TrainError, match=rf"inputs\.npy: .*{reason}"):
            data.load("npy", str(tmp_path), {})
    np.save(file, np.array(["a", "b"]))
    with pytest.raises(TrainError, match="are not numbers"):
        data.load("npy", str(tmp_path), {})


def test_any_damage_of_a_header_is_a_trainer_error(tmp_path: Path) -> None:
    write(tmp_path, np.zeros((20, 3)), np.zeros(20))
    file = tmp_path / "inputs.npy"
    whole, refused = file.read_bytes(), 0
    for _ in range(200):
        content = bytearray(whole)
        for place in RANDOM.integers(0, 80, RANDOM.integers(1, 4)):
            content[place] = RANDOM.integers(256)
        file.write_bytes(content)
        try:
            assert npy.MappedFile(file).values.nbytes <= len(whole)
        except TrainError as error:
            refused += 1
            assert str(file) in str(error)
    assert refused > 100


SAMPLES, RANKS = 145, 4
PAGES = 4  # of a sample


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """145 samples of four memory pages each."""
    inputs = np.arange(SAMPLES * PAGES * mmap.PAGESIZE // 4, dtype=np.float32).reshape(SAMPLES, -1)
    return write(tmp_path_factory.mktemp("mapped"), inputs, np.arange(SAMPLES) % 2)


def own_pages(found: Data, rank: int) -> range:
    """The pages of the mapping of inputs that a rank's samples lie on, wholly or in part."""
    own = chunk(SAMPLES, rank, RANKS)
    header = len(found.train.inputs.memory) - found.train.inputs.values.nbytes
    assert 0 < header < mmap.PAGESIZE
    return range(own.start * PAGES, own.stop * PAGES + 1)  # which the header shifts off the pages' borders


def seal(found: Data, pages: range) -> None:
    """Take all other pages of the mapping from this process: to read one of them ends it."""
    mapped = found.train.inputs
    start = mapped.values.__array_interface__["data"][0] // mmap.PAGESIZE * mmap.PAGESIZE
    last = -(-len(mapped.memory) // mmap.PAGESIZE)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for first, end in ((0, pages.start), (pages.stop, last)):
        if end > first:
            size = ctypes.c_size_t((end - first) * mmap.PAGESIZE)
            assert protect(ctypes.c_void_p(start + first * mmap.PAGESIZE), size, 0) == 0


def train(found: Data, rank: int) -> int:
    """Take all batches of an epoch; returns how many samples that are."""
    shards = Shards(SAMPLES, 4, rank=rank, ranks=RANKS, seed=0, mode=found.sharding)
    return sum(len(found.train.batch(task.indices)[1]) for task in shards.tasks(0, 0, 0, shards.steps))


def in_child(action) -> int:
    """Return the exit code of a forked process, negative where a signal ended it."""
    child = os.fork()
    if not child:
        faulthandler.disable()  # the fault is wanted
        os._exit(0 if action() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("rank", range(RANKS))
def test_a_rank_reads_nothing_but_its_own_chunk(mapped: str, rank: int) -> None:
    """36, 36, 36 and 37 samples: a rank trains with all pages of the others sealed off, and could not read one."""
    found = data.load("npy", mapped, {"classes": 2})
    pages = own_pages(found, rank)
    assert len(pages) == (37 if rank == 3 else 36) * PAGES + 1
    other = chunk(SAMPLES, (rank + 1) % RANKS, RANKS)[10]

    def sealed(action) -> int:
        return in_child(lambda: (seal(found, pages), action())[1])

    assert sealed(lambda: train(found, rank) == 36) == 0
    assert sealed(lambda: len(found.train.batch(np.array([chunk(SAMPLES, rank, RANKS)[-1]]))[1])) == 0
    assert sealed(lambda: len(found.train.batch(np.array([other]))[1])) == -signal.SIGSEGV


def test_nothing_else_is_read_from_the_disk(tmp_path: Path) -> None:
    """The kernel reads ahead of a sequence, by default over the end of a chunk (mincore(2) tells what it holds)."""
    inputs = np.zeros((SAMPLES, PAGES * mmap.PAGESIZE // 4), dtype=np.float32)
    folder = write(tmp_path, inputs, np.arange(SAMPLES) % 2)
    with (tmp_path / "inputs.npy").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        held = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
    if in_memory(held).any():
        pytest.skip("this file system keeps its files in memory")
    found = data.load("npy", folder, {"classes": 2})
    assert train(found, 1) == 36
    pages = own_pages(found, 1)
    assert {*pages} <= {*np.flatnonzero(in_memory(held))} <= {*range(8), *pages}  # the first are the header's


def in_memory(held: mmap.mmap) -> np.ndarray:
    """Return which pages of a mapped file the kernel holds."""
    pages = (ctypes.c_ubyte * -(-len(held) // mmap.PAGESIZE))()
    address = ctypes.addressof(ctypes.c_char.from_buffer(held))
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(held)), pages) == 0
    return np.frombuffer(bytes(pages), dtype=np.uint8) & 1
