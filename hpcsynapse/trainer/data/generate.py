"""Small data sets in the true formats of the large ones, to test and to show with: nothing has to be downloaded.

    python -m hpcsynapse.trainer.data.generate FORMAT FOLDER [--samples N] [--seed N]

Pictures are the real handwritten digits that scikit-learn ships, enlarged, for CIFAR-10 in random colours; volumes are
made up, of the shape that the brain imaging source has, eight times smaller along every axis.
"""

from __future__ import annotations

import argparse
import gzip
import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data import digits

Bytes = NDArray[np.uint8]
_HELD_OUT = 6  # every sixth sample is for validation
_VOLUME = (22, 18, 12)  # height, width, channels


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files of one format into a folder, which is made."""
    parser = argparse.ArgumentParser(prog="python -m hpcsynapse.trainer.data.generate", description=__doc__)
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=600, help="for training and validation together [600]")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.samples < 2 * _HELD_OUT:
        parser.error(f"--samples {options.samples} must be at least {2 * _HELD_OUT}")
    options.folder.mkdir(parents=True, exist_ok=True)
    FORMATS[options.format](options.folder, options.samples, options.seed)


def cifar10(folder: Path, samples: int, seed: int, *, python: bool = False) -> None:
    """Write data_batch_1..5 and test_batch of the binary version, or of the Python version."""
    gray, labels = _pictures(32, samples, seed)
    random = np.random.default_rng([seed, 1])
    ground, ink = random.integers(0, 128, (samples, 3, 1, 1)), random.integers(128, 256, (samples, 3, 1, 1))
    images = (ground + (ink - ground) * (gray[:, None] / 255.0)).astype(np.uint8).reshape(samples, -1)
    train = samples - samples // _HELD_OUT
    borders = [*np.linspace(0, train, 6, dtype=int), samples]
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for name, first, end in zip(names, borders[:-1], borders[1:], strict=True):
        content = cifar_python if python else cifar_binary
        file = folder / (name if python else f"{name}.bin")
        file.write_bytes(content(images[first:end], labels[first:end]))


def mnist(folder: Path, samples: int, seed: int, *, compressed: bool = False) -> None:
    """Write the four IDX files, gzip-compressed or not."""
    images, labels = _pictures(28, samples, seed)
    train = samples - samples // _HELD_OUT
    for part, chosen in (("train", slice(train)), ("t10k", slice(train, None))):
        for name, array in (("images-idx3-ubyte", images[chosen]), ("labels-idx1-ubyte", labels[chosen])):
            content = idx(array)
            file = folder / (f"{part}-{name}.gz" if compressed else f"{part}-{name}")
            file.write_bytes(gzip.compress(content, mtime=0) if compressed else content)


def volumes(folder: Path, samples: int, seed: int) -> None:
    """Write inputs (n, 22, 18, 12) and targets (n, 22, 18, 1) float64, and those for validation.

    An input is a blurred spot that brightens from channel to channel, in noise; its target is the spot alone.
    """
    random = np.random.default_rng(seed)
    height, width, channels = _VOLUME
    rows, columns = np.mgrid[:height, :width]
    centre = random.uniform(0.25, 0.75, (2, samples, 1, 1)) * np.array([height, width]).reshape(2, 1, 1, 1)
    spot = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / 8.0)[..., None]
    inputs = 100.0 + 40.0 * spot * np.linspace(0.5, 1.5, channels) + random.normal(0, 5, (samples, *_VOLUME))
    train = samples - samples // _HELD_OUT
    for prefix, chosen in (("", slice(train)), ("val_", slice(train, None))):
        np.save(folder / f"{prefix}inputs.npy", inputs[chosen])
        np.save(folder / f"{prefix}targets.npy", spot[chosen])


FORMATS: dict[str, Callable[[Path, int, int], None]] = {
    "cifar10": cifar10,
    "cifar10-python": partial(cifar10, python=True),
    "mnist": mnist,
    "mnist-gz": partial(mnist, compressed=True),
    "npy": volumes,
}


def cifar_binary(images: Bytes, labels: Bytes) -> bytes:
    """Return records of a label byte and the pixels (n, 3072) of a picture."""
    return np.concatenate([labels[:, None], images], axis=1).tobytes()


def cifar_python(images: Bytes, labels: Bytes, name: str = "batch") -> bytes:
    """Return a pickled dictionary as Python 2 wrote it: protocol 2, texts as bytes, NumPy under its old names.

    The opcodes are those of pickletools.
    """
    numbers = b"".join(b"K%c" % label for label in labels)
    files = b"".join(_text(b"picture_%d.png" % number) for number in range(len(labels)))
    new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _text(b"b") + b"\x87R"
    kind = (
        b"cnumpy\ndtype\n"
        + _text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + _text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = b"".join(b"J" + struct.pack("<i", side) for side in images.shape) + b"\x86"
    content = b"T" + struct.pack("<i", images.size) + images.tobytes()
    items = {
        b"batch_label": _text(name.encode()),
        b"labels": b"](" + numbers + b"e",
        b"data": new + b"(K\x01" + shape + kind + b"\x89" + content + b"tb",
        b"filenames": b"](" + files + b"e",
    }
    return b"\x80\x02}(" + b"".join(_text(key) + value for key, value in items.items()) + b"u."


def _text(value: bytes) -> bytes:
    return b"U%c" % len(value) + value


def idx(array: Bytes) -> bytes:
    """Return an array of bytes as an IDX file."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _pictures(size: int, samples: int, seed: int) -> tuple[Bytes, Bytes]:
    """Return digits (samples, size, size) and their labels, in random order, again from the first after 1797."""
    pixels, labels = digits.read()
    chosen = np.random.default_rng(seed).permutation(len(labels))[np.arange(samples) % len(labels)]
    small = torch.from_numpy(pixels[chosen].reshape(-1, 1, 8, 8).astype(np.float32) * (255.0 / 16.0))
    large = functional.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
    return large[:, 0].round().to(torch.uint8).numpy(), labels[chosen].astype(np.uint8)


if __name__ == "__main__":
    try:
        main()
    except (TrainError, OSError) as error:
        sys.exit(f"Error: {error}")
