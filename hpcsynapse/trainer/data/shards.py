"""Tar files of samples as WebDataset writes them: members of one sample share a name up to its first dot.

A member's ending says what it is: a picture (.jpg, .png) or an array (.npy), and .cls, the label as a text. Headers are
read when a run starts; after that a sample is read by its place, so that samples come in any order and none twice.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.data.base import Data, Indices, folder
from hpcsynapse.trainer.data.pictures import DEVIATION, MEAN, Form, is_picture, stacked
from hpcsynapse.trainer.data.sharding import CONTIGUOUS


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar file: its name, and where its bytes are."""

    name: str
    file: int
    offset: int
    size: int


class TarSamples:
    """Samples of tar files in the order in which they lie there; every process opens the files for itself."""

    def __init__(self, files: Sequence[Path], form: Form) -> None:
        self._files, self._form = files, form
        self._samples = [pair for number in range(len(files)) for pair in self._index(number)]
        self._opened: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self._samples)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The labels of all samples."""
        return np.array([self._label(target) for _, target in self._samples], dtype=np.int64)

    @property
    def plain(self) -> TarSamples:
        """The same samples without anything random, for those that are set aside from training."""
        return TarSamples(self._files, self._form.plain)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return inputs (n, ...) float32 and labels (n,) int64; raises TrainError naming file and member."""
        chosen = [self._samples[index] for index in indices.tolist()]
        return stacked([self._input(one) for one, _ in chosen], [self._label(target) for _, target in chosen])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample."""
        return tuple(self._input(self._samples[0][0]).shape)

    def _index(self, number: int) -> list[tuple[Member, Member]]:
        """Return input and label of every sample of a file."""
        file = self._files[number]
        samples: dict[str, dict[str, Member]] = {}
        try:
            with tarfile.open(file, "r:") as archive:
                for found in archive:
                    folder_name, _, name = found.name.rpartition("/")
                    key, _, ending = name.partition(".")
                    if found.isfile() and key:
                        member = Member(found.name, number, found.offset_data, found.size)
                        samples.setdefault(f"{folder_name}/{key}", {})[ending.lower()] = member
        except (OSError, tarfile.TarError) as error:
            raise TrainError(f"{file}: is no plain tar file that can be read: {error}") from None
        return [_pair(file, key, members) for key, members in samples.items()]

    def _input(self, member: Member) -> Tensor:
        content, name = self._read(member), f"{self._files[member.file]}: {member.name}"
        if is_picture(member.name):
            return self._form.read(content, name)
        try:
            return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False).astype(np.float32))
        except (ValueError, OSError, EOFError) as error:
            raise TrainError(f"{name}: is no array: {error}") from None

    def _label(self, member: Member) -> int:
        text = self._read(member)
        try:
            return int(text)
        except ValueError:
            raise TrainError(f"{self._files[member.file]}: {member.name}: {text[:40]!r} is no label") from None

    def _read(self, member: Member) -> bytes:
        key = (os.getpid(), member.file)
        if key not in self._opened:
            self._opened[key] = os.open(self._files[member.file], os.O_RDONLY)
        content = os.pread(self._opened[key], member.size, member.offset)
        if len(content) != member.size:
            raise TrainError(f"{self._files[member.file]}: ends within {member.name}")
        return content


def load(
    path: str | None,
    *,
    train: str = "",
    validation: str = "val*.tar",
    classes: int | None = None,
    size: int = 224,
    resize: int | None = None,
    random_crop: bool = False,
    mean: Sequence[float] = MEAN,
    deviation: Sequence[float] = DEVIATION,
) -> Data:
    """Return the samples of the tar files of a folder: those named train*.tar, else all that are not for validation.

    Unless `classes` is given all labels are read at the start. From `size` on, arguments are those of `Form`.
    """
    root = folder("shards", path)
    form = Form(size, resize, random_crop, mean, deviation)
    held = sorted(root.glob(validation))
    files = sorted(root.glob(train or "train*.tar")) or ([] if train else sorted(set(root.glob("*.tar")) - set(held)))
    if not files:
        raise TrainError(f"data 'shards': {root} has no {train or 'tar files'}")
    found = TarSamples(files, form)
    if not len(found):
        raise TrainError(f"data 'shards': the tar files of {root} hold no samples")
    return Data(
        train=found,
        validation=TarSamples(held, form.plain) if held else None,
        shape=found.shape,
        classes=int(found.labels.max()) + 1 if classes is None else classes,
        sharding=CONTIGUOUS,
    )


def _pair(file: Path, key: str, members: dict[str, Member]) -> tuple[Member, Member]:
    inputs = [one for ending, one in members.items() if is_picture(f".{ending}") or ending == "npy"]
    if len(inputs) != 1 or "cls" not in members:
        raise TrainError(
            f"{file}: sample {key.lstrip('/')} has {', '.join(members)}; one picture or .npy and a .cls are wanted"
        )
    return inputs[0], members["cls"]
