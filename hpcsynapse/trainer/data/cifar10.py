"""CIFAR-10 as it lies on disk: the binary version, and the Python version without running what a pickle may hold.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. Files may lie in the folder given or in the one that the
archive unpacks to.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, ImageDataset, folder

CLASSES = 10
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PIXELS = 3 * 32 * 32
_RECORD = 1 + _PIXELS
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
_ARCHIVES = (".", "cifar-10-batches-bin", "cifar-10-batches-py")
Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def load(path: str | None) -> Data:
    """Return the images (3, 32, 32) of data_batch_1..5 for training and of test_batch for validation.

    Channels are normalised by mean and deviation of the training images. Training batches that are not there are
    left out, but one has to be.
    """
    root = folder("cifar10", path)
    train = _read_all(root, _TRAIN)
    if train is None:
        raise TrainError(f"data 'cifar10': neither data_batch_1.bin nor data_batch_1 lies in {root}")
    test = _read_all(root, _TEST)
    mean = train[0].mean(axis=(0, 2, 3), dtype=np.float64)
    square = np.mean(np.square(train[0], dtype=np.float32), axis=(0, 2, 3), dtype=np.float64)
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-6))
    scale = {"mean": mean.tolist(), "deviation": deviation.tolist()}
    return Data(
        train=ImageDataset(*train, **scale),
        validation=ImageDataset(*test, **scale) if test else None,
        shape=(3, 32, 32),
        classes=CLASSES,
        names=NAMES,
    )


def _read_all(root: Path, names: tuple[str, ...]) -> Arrays | None:
    parts = []
    for name in names:
        for archive in _ARCHIVES:
            binary, python = root / archive / f"{name}.bin", root / archive / name
            if binary.is_file():
                parts.append(read_binary(binary))
                break
            if python.is_file():
                parts.append(read_python(python))
                break
    if not parts:
        return None
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def read_binary(file: Path) -> Arrays:
    """Return images (n, 3, 32, 32) and labels (n,) of records of one label byte and 3072 pixel bytes."""
    content = np.fromfile(file, dtype=np.uint8)
    if not len(content) or len(content) % _RECORD:
        torn = len(content) // _RECORD * _RECORD
        raise TrainError(f"{file}: the record at offset {torn} is incomplete ({len(content)} bytes in the file)")
    records = content.reshape(-1, _RECORD)
    labels = records[:, 0].copy()
    if labels.max() >= CLASSES:
        bad = int(np.argmax(labels >= CLASSES))
        raise TrainError(f"{file}: label {labels[bad]} at offset {bad * _RECORD} is not one of 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def read_python(file: Path) -> Arrays:
    """Return images (n, 3, 32, 32) and labels (n,) of a pickled dictionary with b'data' and b'labels'."""
    content = file.read_bytes()
    stream = io.BytesIO(content)
    try:
        table = _NumbersOnly(stream, encoding="bytes").load()
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything
        raise TrainError(f"{file}: not a batch of the Python version, at offset {stream.tell()}: {error}") from None
    if not isinstance(table, dict) or not {b"data", b"labels"} <= table.keys():
        raise TrainError(f"{file}: offset 0: no dictionary with 'data' and 'labels'")
    images = table[b"data"].values if isinstance(table[b"data"], _Pixels) else None
    if images is None or images.shape[1:] != (_PIXELS,):
        raise TrainError(f"{file}: 'data' is not an array (n, {_PIXELS}) of bytes")
    labels = table[b"labels"]
    if not isinstance(labels, (list, tuple)) or not all(type(label) is int for label in labels):
        raise TrainError(f"{file}: 'labels' is not a list of whole numbers")
    if len(labels) != len(images) or not len(images):
        raise TrainError(f"{file}: {len(images)} images, but {len(labels)} labels")
    if bad := next((pair for pair in enumerate(labels) if not 0 <= pair[1] < CLASSES), None):
        raise TrainError(f"{file}: label {bad[1]} of image {bad[0]} is not one of 0 to 9")
    return images.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.uint8)


class _NumbersOnly(pickle.Unpickler):
    """Builds numbers, texts, lists and dictionaries; of classes and functions it knows four, by stand-ins.

    NumPy's own would take the state of any array from the pickle as it comes.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for one of the few things that pickled arrays of bytes need."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: _Pixels()
        if module == "numpy" and name in ("ndarray", "dtype"):
            return name if name == "ndarray" else _ByteType
        if module == "_codecs" and name == "encode":
            return _encode
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a batch of images")


class _ByteType:
    """Stands for numpy.dtype("u1")."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"an array of {code!r:.50} instead of bytes")

    def __setstate__(self, _: object) -> None:
        """Take no byte order, which bytes do not have."""


class _Pixels:
    """Stands for an array of bytes; `values` is that array."""

    values: NDArray[np.uint8] | None = None

    def __setstate__(self, state: tuple[object, tuple[int, ...], object, object, bytes]) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _ByteType) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array of something else than bytes")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


def _encode(text: object, code: object) -> bytes:
    """Stands for codecs.encode, by which protocols before 3 write bytes as text."""
    if not isinstance(text, str) or code != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {code!r:.50}")
    return text.encode("latin-1")
