"""Scalars as an event file of TensorBoard, written without its package.

The file is a list of records: length (8 bytes), checksum of the length, an Event message, checksum of the message
(tensorflow/core/lib/io/record_writer.h); checksums are crc32c, rotated and shifted by a constant.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from hpcsynapse.export.series import Series
from hpcsynapse.report import protobuf
from hpcsynapse.report.protobuf import Bytes

NAME = "events.out.tfevents.hpcsynapse"  # TensorBoard reads files that have tfevents in their names
_POLYNOMIAL = 0x82F63B78  # of crc32c (Castagnoli), reflected
_STEP_BYTES = 5
_BLOCK = 200_000  # events at a time


def write_events(scalars: Iterable[Series], folder: Path) -> int:
    """Write scalars as the only event file of that name in a folder, and return how many points they have.

    The folder is made where it is not there; the file appears whole, in place of one that was written before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / NAME
    temporary = folder / f".{os.getpid()}.part"  # no reader of event files looks at this name
    try:
        with temporary.open("wb") as file:
            count = _write(file, scalars)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _write(file: BinaryIO, scalars: Iterable[Series]) -> int:
    version = struct.pack("<Bd", 1 << 3 | 1, 0.0) + protobuf.text(3, "brain.Event:2")
    file.write(_records(np.frombuffer(version, np.uint8)[None, :]).tobytes())
    count = 0
    for one in scalars:
        for first in range(0, len(one.steps), _BLOCK):
            file.write(_records(_events(one, slice(first, first + _BLOCK))).tobytes())
        count += len(one.steps)
    return count


def _events(one: Series, part: slice) -> Bytes:
    """Return Event messages (tensorflow/core/util/event.proto), one a row: wall_time, step, summary.value."""
    steps = one.steps[part]
    value = protobuf.message(1, protobuf.text(1, one.name), *protobuf.floats(2, one.values[part]))
    return protobuf.messages(
        len(steps),
        [*protobuf.doubles(1, one.times[part]), *protobuf.numbers(2, steps, _STEP_BYTES), *protobuf.message(5, *value)],
    )


def _records(messages: Bytes) -> Bytes:
    count, size = messages.shape
    length = np.frombuffer(struct.pack("<Q", size), np.uint8)
    head = length.tobytes() + _masked(length[None, :]).tobytes()
    return protobuf.messages(count, [head, messages, protobuf.as_bytes(_masked(messages))])


def _masked(data: Bytes) -> npt.NDArray[np.uint32]:
    """Return the masked crc32c of every row."""
    crc = np.full(len(data), 0xFFFF_FFFF, np.uint32)
    table = _table()
    for column in range(data.shape[1]):
        crc = table[(crc ^ data[:, column]) & 0xFF] ^ (crc >> np.uint32(8))
    crc = ~crc
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


@cache
def _table() -> npt.NDArray[np.uint32]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return np.array(found, np.uint32)
