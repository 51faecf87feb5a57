"""Scalars for TensorBoard, where its package is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcsynapse.errors import TrainError


class Scalars:
    """Writes numbers by step into the run's tensorboard folder; raises TrainError without the package."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainError(
                "train.tensorboard needs the package tensorboard; pip install 'hpcsynapse[tensorboard]'"
            ) from error
        self._writer = SummaryWriter(str(folder), flush_secs=10)

    def add(self, group: str, values: Mapping[str, float | None], step: int) -> None:
        """Write numbers as `group/name` at a step."""
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
