"""Anchors: the boxes from which the network measures, several at every place of every level of the pyramid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

# Height : width. 1:2, 1:1 and 2:1 are those of the paper; lines of text are wide and flat.
RATIOS = (1 / 8, 1 / 6, 1 / 4, 1 / 2, 1.0, 2.0)
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
SIZE = 4  # an anchor's area is (SIZE x stride x scale) squared: 32 to 512 pixels on levels P3 to P7


def shapes(stride: int, ratios: Sequence[float]) -> Tensor:
    """Return the boxes (ratios x scales, 4) of a level around the point (0, 0)."""
    sizes = SIZE * stride * torch.tensor(SCALES)
    roots = torch.tensor([float(ratio) for ratio in ratios]).sqrt()
    widths, heights = (sizes / roots[:, None]).flatten(), (sizes * roots[:, None]).flatten()
    return torch.stack((-widths, -heights, widths, heights), dim=1) / 2


def anchors(levels: Iterable[tuple[int, int, int]], ratios: Sequence[float], device: torch.device | str) -> Tensor:
    """Return the anchors (A, 4) of levels given as (stride, rows, columns): by level, row, column, ratio and scale."""
    found = []
    for stride, rows, columns in levels:
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        places = stride * torch.stack((x, y, x, y), dim=2).reshape(-1, 1, 4)
        found.append((places + shapes(stride, ratios)).reshape(-1, 4))
    return torch.cat(found).to(device)
