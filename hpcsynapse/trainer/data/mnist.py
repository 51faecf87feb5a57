"""MNIST as it lies on disk: IDX files, gzip-compressed or not.

Format: http://yann.lecun.com/exdb/mnist. Two zero bytes, the type (8 = bytes), the number of dimensions, their
sizes as big-endian 32-bit numbers, the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, ImageDataset, folder

CLASSES = 10
_BYTES = 0x08


def load(path: str | None) -> Data:
    """Return the 28x28 images of train-* for training and of t10k-* for validation, normalised by the former."""
    root = folder("mnist", path)
    images, labels = _pair(root, "train")
    mean, deviation = [float(images.mean())], [max(float(images.std()), 1e-3)]
    validation = None
    if _find(root, "t10k-images", 3) is not None:
        validation = ImageDataset(*_pair(root, "t10k"), mean=mean, deviation=deviation)
    return Data(
        train=ImageDataset(images, labels, mean=mean, deviation=deviation),
        validation=validation,
        shape=tuple(images.shape[1:]),
        classes=CLASSES,
    )


def _find(root: Path, stem: str, dimensions: int) -> Path | None:
    for joint in "-.":
        for suffix in ("", ".gz"):
            file = root / f"{stem}{joint}idx{dimensions}-ubyte{suffix}"
            if file.is_file():
                return file
    return None


def _pair(root: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (n, 1, H, W) and labels (n,) of `train` or `t10k`."""
    files = [_find(root, f"{part}-images", 3), _find(root, f"{part}-labels", 1)]
    for file, name in zip(files, ("images-idx3-ubyte", "labels-idx1-ubyte"), strict=True):
        if file is None:
            raise TrainError(f"data 'mnist': {part}-{name} lies neither as such nor as .gz in {root}")
    images, labels = (read_idx(file, dimensions) for file, dimensions in zip(files, (3, 1), strict=True) if file)
    if len(images) != len(labels):
        raise TrainError(f"{files[1]}: {len(labels)} labels at offset 4, but {files[0]} holds {len(images)} images")
    if labels.max() >= CLASSES:
        bad = int(np.argmax(labels >= CLASSES))
        raise TrainError(f"{files[1]}: label {labels[bad]} at offset {8 + bad} is not one of 0 to 9")
    return images[:, None], labels


def read_idx(file: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of bytes in an IDX file; raises TrainError naming the offset of what is wrong."""
    content = _content(file)
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise TrainError(f"{file}: ends at offset {len(content)}, within its header of {start} bytes")
    if content[:4] != bytes((0, 0, _BYTES, dimensions)):
        raise TrainError(f"{file}: offset 0: {content[:4].hex()} does not begin an IDX file of {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    wanted = start + math.prod(shape)
    if len(content) != wanted or not math.prod(shape):
        raise TrainError(
            f"{file}: the sizes {list(shape)} at offset 4 ask for {wanted} bytes, the file holds {len(content)}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _content(file: Path) -> bytes:
    """Return the bytes of a file, unpacked where it is compressed."""
    try:
        with file.open("rb") as stream:
            if file.suffix != ".gz":
                return stream.read()
            try:
                return gzip.GzipFile(fileobj=stream).read()
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise TrainError(f"{file}: damaged before offset {stream.tell()}: {error}") from None
    except OSError as error:
        raise TrainError(f"{file}: cannot be read: {error}") from None
