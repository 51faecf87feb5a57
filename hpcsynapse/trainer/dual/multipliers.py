"""The multipliers of ADMM: one for every training sample, of the size of its activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Multipliers:
    """Rows by sample number, zero until a sample was first seen; they take as much memory as all activations."""

    def __init__(self) -> None:
        self._rows: dict[int, Tensor] = {}

    def take(self, indices: Any, like: Tensor) -> Tensor:
        """Return the multipliers of samples in the shape of their activations (n, ...)."""
        none = torch.zeros_like(like[0])
        return torch.stack([self._rows.get(int(index), none) for index in indices])

    def put(self, indices: Any, values: Tensor) -> None:
        """Keep the multipliers of samples."""
        for index, row in zip(indices, values, strict=True):
            self._rows[int(index)] = row.clone()

    def state(self) -> dict[str, Tensor]:
        """Return all of them for a checkpoint."""
        if not self._rows:
            return {}
        return {"samples": torch.tensor(list(self._rows)), "rows": torch.stack(list(self._rows.values())).cpu()}

    def load(self, state: dict[str, Tensor] | None, device: torch.device) -> None:
        """Take up what `state` returned."""
        if state:
            self._rows = dict(zip(state["samples"].tolist(), state["rows"].to(device), strict=True))
