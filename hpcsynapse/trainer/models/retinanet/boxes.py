"""Boxes as rows (x1, y1, x2, y2) in pixels: overlap, offsets from anchors and back, non-maximum suppression."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Offsets are divided by these, so that they are about as large as 1 (Girshick 2015, Fast R-CNN).
SCALE = (0.1, 0.1, 0.2, 0.2)
LARGEST = math.log(1000 / 16)  # a box grows no more than so much over its anchor: exp() stays finite


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union (n, m) of boxes (n, 4) and (m, 4); 0 where both are empty."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    union = area(first)[:, None] + area(second)[None] - shared
    return shared / union.clamp(min=1e-9)


def area(boxes: Tensor) -> Tensor:
    """Return the areas (n,) of boxes (n, 4) in square pixels; 0 where one is empty."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def encode(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return the offsets (n, 4) of boxes from anchors: shift of the centre by the anchor's size, log of the growth."""
    centre, size = _centres(anchors)
    goal, extent = _centres(boxes)
    offsets = torch.cat(((goal - centre) / size, torch.log(extent / size)), dim=1)
    return offsets / offsets.new_tensor(SCALE)


def decode(anchors: Tensor, offsets: Tensor) -> Tensor:
    """Return the boxes (n, 4) that lie at these offsets from anchors: the inverse of `encode`."""
    offsets = offsets * offsets.new_tensor(SCALE)
    centre, size = _centres(anchors)
    centre = centre + offsets[:, :2] * size
    half = size * torch.exp(offsets[:, 2:].clamp(max=LARGEST)) / 2
    return torch.cat((centre - half, centre + half), dim=1)


def clip(boxes: Tensor, width: int, height: int) -> Tensor:
    """Return boxes cut to an image's size."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor((width, height, width, height)))


def nms(boxes: Tensor, scores: Tensor, limit: float) -> Tensor:
    """Return the indices of the boxes that stay, best first: none overlaps a better one by more than `limit`."""
    order = torch.argsort(scores, descending=True, stable=True)
    overlaps = (iou(boxes[order], boxes[order]) > limit).cpu()
    stays = torch.ones(len(order), dtype=torch.bool)
    for number in range(len(order)):
        if stays[number]:
            stays[number + 1 :] &= ~overlaps[number, number + 1 :]
    return order[stays.to(order.device)]


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
