"""The harder digits: fixed, of the right size, and with nothing of the validation digits in training."""

import numpy as np
import pytest
import torch

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer import data
from hpcsynapse.trainer.data import cluttered_digits, digits


def test_sizes_labels_and_values() -> None:
    found = data.load("cluttered-digits", None, {})
    assert (len(found.train), len(found.validation), found.shape, found.classes) == (2874, 1800, (1, 28, 28), 10)
    images, labels = found.train.batch(np.arange(2874))
    assert images.shape == (2874, 1, 28, 28) and images.dtype == torch.float32
    assert -1 < float(images.min()) < -0.3 and 1 < float(images.max()) < 2
    assert set(labels.tolist()) == set(range(10))
    assert np.ptp(np.bincount(found.validation.labels)) <= 20


def test_the_set_is_fixed_and_leaves_random_numbers_alone() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = (data.load("cluttered-digits", None, {}).train.images for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_nobody_chooses_another_set() -> None:
    with pytest.raises(TrainError, match="do not fit"):
        data.load("cluttered-digits", None, {"noise": 0.0})


def test_every_image_shows_its_own_digit(monkeypatch) -> None:
    """Without noise and patches a digit's ink is that of the original, by its area, wherever it was moved."""
    monkeypatch.setattr(cluttered_digits, "NOISE", 0.0)
    monkeypatch.setattr(cluttered_digits, "PATCHES", 0)
    monkeypatch.setattr(cluttered_digits, "SCALE", (0.5, 0.5))
    pixels, _ = digits.read()
    ink = pixels[:300].astype(np.float32).reshape(-1, 8, 8) / 16
    images = cluttered_digits.clutter(ink, np.random.default_rng(0))
    area = (cluttered_digits.SIZE * 0.5 / 8) ** 2
    ratio = images.sum(axis=(1, 2, 3)) / (ink.sum(axis=(1, 2)) * area)
    assert ratio.min() > 0.9 and ratio.max() < 1.1


def test_patches_add_ink_and_remove_none(monkeypatch) -> None:
    monkeypatch.setattr(cluttered_digits, "NOISE", 0.0)
    pixels, _ = digits.read()
    ink = pixels[:200].astype(np.float32).reshape(-1, 8, 8) / 16
    covered = cluttered_digits.clutter(ink, np.random.default_rng(0))
    monkeypatch.setattr(cluttered_digits, "PATCHES", 0)
    bare = cluttered_digits.clutter(ink, np.random.default_rng(0))
    assert (covered >= bare).all()
    changed = (covered != bare).reshape(200, -1).sum(axis=1)
    assert changed.max() <= 2 * 36 and np.median(changed) > 0
