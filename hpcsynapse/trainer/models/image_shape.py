"""What built-in models check about the images they are built for."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from hpcsynapse.errors import TrainError

SMALL = 64  # images with a side below are small: ImageNet's strided first layers would leave little of them


def check_images(model: str, shape: Sequence[int], classes: int, least: int, multiple: int = 1) -> tuple[int, int, int]:
    """Return channels, height and width of a sample.

    Raises TrainError unless these are what `shape` holds, both sides are at least `least` and divisible by `multiple`,
    and `classes` is a positive whole number.
    """
    whole = isinstance(shape, Sequence) and len(shape) == 3 and all(_positive(side) for side in shape)
    if not whole or min(shape[1:]) < least or any(side % multiple for side in shape[1:]):
        divisible = f" that {multiple} divides" if multiple > 1 else ""
        raise TrainError(
            f"{model} needs images (channels, height, width) with sides >= {least}{divisible}, not {_shown(shape)}"
        )
    if not _positive(classes):
        raise TrainError(f"{model}: classes = {classes!r} must be a positive whole number")
    channels, height, width = shape
    return channels, height, width


def is_small(model: str, shape: Sequence[int], small: bool | None) -> bool:
    """Return whether the variant for small images is meant: as `small` says, else by the sides of `shape`."""
    if small is not None and not isinstance(small, bool):
        raise TrainError(f"{model}: small = {small!r} must be true or false")
    return min(shape[1:]) < SMALL if small is None else small


def _positive(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def _shown(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list) else shape
