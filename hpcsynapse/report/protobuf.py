"""Protocol buffer messages as bytes: single ones, and many of equal size at once from arrays of numbers.

A message is a list of pieces: bytes, which are the same in all of them, or an array of bytes with a row for each.
Numbers from arrays are written with a fixed number of bytes; a varint with leading zeros is a valid one
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Pieces = list[bytes | Bytes]
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """Return a number that is not negative as a varint."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def number(field: int, value: int) -> bytes:
    """Return a field that holds a whole number; a negative one takes ten bytes."""
    return varint(field << 3 | _VARINT) + varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def double(field: int, value: float) -> bytes:
    """Return a field that holds a 64-bit float."""
    return varint(field << 3 | _FIXED64) + struct.pack("<d", value)


def text(field: int, value: str) -> bytes:
    """Return a field that holds a text; what UTF-8 cannot hold is replaced."""
    return single(field, value.encode("utf-8", "replace"))


def single(field: int, payload: bytes) -> bytes:
    """Return a field that holds a message."""
    return varint(field << 3 | _LENGTH) + varint(len(payload)) + payload


def numbers(field: int, values: npt.NDArray[Any], width: int) -> Pieces:
    """Return a field that holds a whole number from an array, 0 <= value < 2 ** (7 * width)."""
    columns = np.empty((len(values), width), np.uint8)
    rest = values.astype(np.uint64)
    for column in range(width):
        columns[:, column] = rest & np.uint64(0x7F)
        rest >>= np.uint64(7)
    columns[:, :-1] |= 0x80
    return [varint(field << 3 | _VARINT), columns]


def doubles(field: int, values: npt.NDArray[Any]) -> Pieces:
    """Return a field that holds a 64-bit float from an array."""
    return [varint(field << 3 | _FIXED64), as_bytes(values.astype("<f8"))]


def floats(field: int, values: npt.NDArray[Any]) -> Pieces:
    """Return a field that holds a 32-bit float from an array; what is larger than any is infinite."""
    with np.errstate(over="ignore"):
        return [varint(field << 3 | _FIXED32), as_bytes(values.astype("<f4"))]


def message(field: int, *pieces: bytes | Bytes) -> Pieces:
    """Return a field that holds a message of pieces."""
    return [varint(field << 3 | _LENGTH) + varint(width_of(pieces)), *pieces]


def as_bytes(values: npt.NDArray[Any]) -> Bytes:
    """Return an array as one of bytes, a row for each value."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.dtype.itemsize)


def width_of(pieces: tuple[bytes | Bytes, ...] | Pieces) -> int:
    """Return how many bytes pieces take, one behind the other."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.shape[1] for piece in pieces)


def messages(count: int, pieces: Pieces) -> Bytes:
    """Return so many messages, shape (count, bytes of one)."""
    found = np.empty((count, width_of(pieces)), np.uint8)
    column = 0
    for piece in pieces:
        wide = len(piece) if isinstance(piece, bytes) else piece.shape[1]
        found[:, column : column + wide] = np.frombuffer(piece, np.uint8) if isinstance(piece, bytes) else piece
        column += wide
    return found


def width_for(largest: int) -> int:
    """Return how many bytes a varint of that size takes."""
    return len(varint(largest))
