"""Memory-mapped arrays: a rank reads the samples that it takes, and no others.

    python -m hpcsynapse.trainer.data.npy FILE

prints mean and deviation of a whole file, read once, to be given as arguments of the data set: no start of a run reads
what belongs to other ranks.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, Indices, folder
from hpcsynapse.trainer.data.one_hot import check, classes_of, labels_of
from hpcsynapse.trainer.data.sharding import CONTIGUOUS
from hpcsynapse.trainer.data.volumes import LABELS, Form

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_AT = 8  # where the header begins, behind magic and version
_BLOCK = 1 << 25  # values that statistics take at once


class MappedFile:
    """The array of a .npy file, memory-mapped: `values` (n, ...), of which only what is looked at is read.

    Raises TrainError when the file is missing or malformed.
    """

    def __init__(self, file: Path) -> None:
        self.name = str(file)
        try:
            with file.open("rb") as stream:
                shape, dtype = _header(file, stream)
                start, size = stream.tell(), file.stat().st_size
                wanted = start + math.prod(shape) * dtype.itemsize
                if size < wanted:
                    raise TrainError(
                        f"{file}: ends at offset {size}; its header at offset {_AT} asks for {wanted} bytes"
                    )
                self.memory = mmap.mmap(stream.fileno(), wanted, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise TrainError(f"data 'npy': {file} does not exist") from None
        except OSError as error:
            raise TrainError(f"{file}: cannot be read: {error}") from None
        self.values: NDArray[Any] = np.ndarray(shape, dtype, self.memory, start)
        self._start, self._row = start, self.values.strides[0]
        # The kernel would read on behind every sample, megabytes on some systems, and so into other ranks' parts.
        self._exact = self._row >= mmap.PAGESIZE
        if self._exact:
            self.memory.madvise(mmap.MADV_RANDOM)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: Indices) -> NDArray[Any]:
        """Return a copy of some samples; large ones are asked for at once, by just the pages they lie on."""
        for index in indices.tolist() if self._exact else ():
            first = self._start + index * self._row
            page = first - first % mmap.PAGESIZE
            self.memory.madvise(mmap.MADV_WILLNEED, page, first + self._row - page)
        return self.values[indices]


class MappedDataset:
    """Inputs (n, ...) and targets (n, ...) of two files, brought into the form that is asked for."""

    def __init__(self, inputs: MappedFile, targets: MappedFile, form: Form, one_hot: bool = False) -> None:
        self.inputs, self.targets, self.form, self.one_hot = inputs, targets, form, one_hot

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def labels(self) -> NDArray[Any]:
        """The label of every sample, read from the whole file; empty where targets are no labels."""
        values = self.targets.values
        if self.one_hot:
            return labels_of(values, self.targets.name)
        return values if values.ndim == 1 and values.dtype.kind in LABELS else values[:0]

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return inputs float32 and targets (int64 labels or float32)."""
        targets = self.targets.take(indices)
        if self.one_hot:
            targets = labels_of(targets, self.targets.name)
        return self.form.inputs(self.inputs.take(indices)), self.form.targets(targets)


def load(
    path: str | None,
    *,
    inputs: str = "inputs.npy",
    targets: str = "targets.npy",
    val_inputs: str = "val_inputs.npy",
    val_targets: str = "val_targets.npy",
    classes: int | None = None,
    one_hot: bool = False,
    scale: str = "none",
    mean: float | None = None,
    deviation: float | None = None,
    channels_last: bool = False,
    pad: Sequence[int] | None = None,
) -> Data:
    """Return the samples along the first axis of the two arrays; validation where its files are there.

    From `scale` on, arguments are those of `Form`. Unless `classes` is given it is the largest label plus one, where
    targets are a vector of labels; that vector is then read whole. `one_hot` says that targets (n, classes) are one-hot
    rows of any type of number: they are learnt as labels are. Volumes of the brain imaging source, (n, 174, 145,
    97), take scale = "sample", channels_last and pad = [192, 192]; whether the source scaled by the figures of a
    sample or of all, it does not say.
    """
    check(one_hot)
    root = folder("npy", path)
    first, second = _pair(root / inputs, root / targets)
    stored, labels = first.values.shape[1:], second.values
    form = Form(stored=stored, scale=scale, mean=mean, deviation=deviation, channels_last=channels_last, pad=pad)
    validation = None
    if (root / val_inputs).is_file() or (root / val_targets).is_file():
        pair = _pair(root / val_inputs, root / val_targets)
        if (other := pair[0].values.shape[1:]) != stored:
            raise TrainError(f"{root / val_inputs}: samples of shape {other}, but {stored} in {inputs}")
        validation = MappedDataset(*pair, form, one_hot)
    if one_hot:
        for one in [second, *([validation.targets] if validation else [])]:
            classes = classes_of(one.values, classes, one.name)
    elif classes is None and labels.ndim == 1 and labels.dtype.kind in LABELS:
        classes = int(labels.max()) + 1
    train = MappedDataset(first, second, form, one_hot)
    return Data(train=train, validation=validation, shape=form.shape, classes=classes, sharding=CONTIGUOUS)


def _pair(inputs: Path, targets: Path) -> tuple[MappedFile, MappedFile]:
    first, second = MappedFile(inputs), MappedFile(targets)
    if len(first) != len(second):
        raise TrainError(f"{targets}: {len(second)} targets, but {inputs} holds {len(first)} inputs")
    return first, second


def _header(file: Path, stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of the array in a .npy file, and leave the stream where its values begin."""
    offset = 0
    try:
        version = np.lib.format.read_magic(stream)
        offset = _AT
        shape, fortran, dtype = _HEADERS[version](stream)
    except OSError:
        raise
    except KeyError:
        raise TrainError(f"{file}: offset 6: version {version} of .npy is not one that plain numbers need") from None
    except Exception as error:  # noqa: BLE001 - a damaged header, which is Python's source, can raise anything
        raise TrainError(f"{file}: offset {offset}: not a .npy file: {error}") from None
    if dtype.kind not in "iubf":
        raise TrainError(f"{file}: values of type {dtype} (header at offset {_AT}) are not numbers")
    if not shape or min(shape) < 1:
        raise TrainError(f"{file}: holds no samples (shape {shape} in the header at offset {_AT})")
    if fortran and len(shape) > 1:
        raise TrainError(
            f"{file}: is stored in Fortran order (header at offset {_AT}), every sample all over the file; "
            "save numpy.ascontiguousarray of it"
        )
    return shape, dtype


def statistics(file: Path) -> tuple[float, float]:
    """Return mean and deviation of all values of a file, taken block by block (Chan et al. 1979)."""
    array = MappedFile(file)
    rows = max(1, _BLOCK // math.prod(array.values.shape[1:]))
    count, mean, squares = 0, 0.0, 0.0
    for first in range(0, len(array), rows):
        block = array.take(np.arange(first, min(first + rows, len(array))))
        own, own_mean, own_squares = block.size, block.mean(dtype=np.float64), block.var(dtype=np.float64) * block.size
        squares += own_squares + (own_mean - mean) ** 2 * count * own / (count + own)
        mean += (own_mean - mean) * own / (count + own)
        count += own
    return float(mean), math.sqrt(squares / count)


def main(arguments: Sequence[str]) -> str:
    """Return the lines to be printed for a file; raises TrainError."""
    if len(arguments) != 1:
        raise TrainError("usage: python -m hpcsynapse.trainer.data.npy FILE")
    return "mean={!r}\ndeviation={!r}".format(*statistics(Path(arguments[0])))


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except TrainError as error:
        sys.exit(f"Error: {error}")
