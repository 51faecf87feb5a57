"""Writes small data sets in the true formats of CIFAR-10 and MNIST."""

import gzip
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np


def cifar_arrays(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), random.integers(0, 10, count).astype(np.uint8)


def write_cifar_binary(file: Path, images: np.ndarray, labels: np.ndarray) -> None:
    file.write_bytes(np.concatenate([labels[:, None], images], axis=1).tobytes())


class _Python2Pickler(pickle._Pickler):
    """Writes protocol 2 as Python 2 did: byte strings as such, and numpy under its old name."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        if len(value) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(value)]) + value)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes

    def save_str(self, value):
        self.save_bytes(value.encode("latin-1"))

    dispatch[str] = save_str


def write_cifar_python(file: Path, images: np.ndarray, labels: np.ndarray) -> None:
    table = {
        b"batch_label": b"testing batch 1 of 1",
        b"labels": [int(label) for label in labels],
        b"data": images,
        b"filenames": [b"a.png"] * len(labels),
    }
    with file.open("wb") as out:
        _Python2Pickler(out, protocol=2).dump(table)
    file.write_bytes(file.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(file: Path, array: np.ndarray) -> None:
    content = idx(array)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
