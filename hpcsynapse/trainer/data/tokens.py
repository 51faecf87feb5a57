"""Text as token numbers in memory-mapped files: train.bin and val.bin, or train.npy and val.npy.

A .bin file holds nothing but the numbers, uint16 or uint32 in this machine's order, as most scripts that prepare text
write it. A rank reads the tokens that it takes, and no others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, Indices, folder

_TYPES = ("uint16", "uint32")


class TokenDataset:
    """Sequences of `context` tokens, end to end, each with the tokens that follow: each is learnt once an epoch."""

    def __init__(self, file: Path, tokens: NDArray[np.unsignedinteger], context: int, vocabulary: int) -> None:
        self._file, self._tokens, self._context, self._vocabulary = file, tokens, context, vocabulary
        self._samples = (len(tokens) - 1) // context
        if self._samples < 1:
            raise TrainError(f"{file}: {len(tokens)} tokens are no sequence of {context} and the one that follows")

    def __len__(self) -> int:
        return self._samples

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return tokens (n, context) and those that follow each of them, int64; raises TrainError for unknown ones."""
        context = self._context
        rows = np.stack([self._tokens[index * context : (index + 1) * context + 1] for index in indices.tolist()])
        if (largest := int(rows.max())) >= self._vocabulary:
            row = int(np.argmax(rows.max(axis=1)))
            place = int(indices[row]) * context + int(np.argmax(rows[row]))
            raise TrainError(
                f"{self._file}: token {place} is {largest}, but the vocabulary has {self._vocabulary}; say another "
                "train.data_args.vocabulary, or dtype"
            )
        found = torch.from_numpy(rows.astype(np.int64))
        return found[:, :-1].contiguous(), found[:, 1:].contiguous()


def load(path: str | None, *, context: int = 1024, vocabulary: int = 50257, dtype: str = "uint16") -> Data:
    """Return training sequences, and those for validation where there is a file; `dtype` is that of .bin files.

    `vocabulary` numbers of tokens are known to the model (50257: GPT-2's).
    """
    for name, value in (("context", context), ("vocabulary", vocabulary)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise TrainError(f"data 'tokens': {name} = {value!r} must be a positive whole number")
    if dtype not in _TYPES:
        raise TrainError(f"data 'tokens': dtype = {dtype!r} is not one of {', '.join(_TYPES)}")
    root = folder("tokens", path)
    train = _open(root, ("train",), dtype)
    if train is None:
        raise TrainError(f"data 'tokens': {root} has neither train.bin nor train.npy")
    validation = _open(root, ("val", "validation"), dtype)
    return Data(
        train=TokenDataset(*train, context, vocabulary),
        validation=None if validation is None else TokenDataset(*validation, context, vocabulary),
        shape=(context,),
        classes=vocabulary,
        tokens=context,
    )


def _open(root: Path, names: tuple[str, ...], dtype: str) -> tuple[Path, NDArray[np.unsignedinteger]] | None:
    """Return the first file there is with its tokens mapped into memory."""
    for file in (root / f"{name}{ending}" for name in names for ending in (".npy", ".bin")):
        if file.is_file():
            return file, _map(file, dtype)
    return None


def _map(file: Path, dtype: str) -> NDArray[np.unsignedinteger]:
    try:
        if file.suffix == ".npy":
            tokens: NDArray[np.unsignedinteger] = np.load(file, mmap_mode="r", allow_pickle=False)
        else:
            size, width = file.stat().st_size, np.dtype(dtype).itemsize
            if not size or size % width:
                raise TrainError(f"{file}: {size} bytes are no whole number of {dtype} tokens")
            tokens = np.memmap(file, dtype, mode="r")
    except (OSError, ValueError) as error:
        raise TrainError(f"{file}: cannot be read: {error}") from None
    if tokens.ndim != 1 or tokens.dtype.name not in _TYPES:
        raise TrainError(f"{file}: holds {tokens.dtype} {tokens.shape}, not one row of {' or '.join(_TYPES)}")
    return tokens
