"""How good detections are: average precision, as PASCAL VOC has computed it since 2010."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hpcsynapse.trainer.models.retinanet.boxes import iou


class Detections(NamedTuple):
    """What was found in one image: boxes (n, 4), scores (n,) and classes (n,)."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def average_precision(found: Sequence[tuple[Tensor, Tensor]], truths: Sequence[Tensor], overlap: float = 0.5) -> float:
    """Return the area under the curve of precision over recall, of one class over a set of images.

    `found` holds for every image boxes (n, 4) and scores (n,), `truths` the true boxes (m, 4). From the best score
    down, a detection is right when it overlaps a true box that no better one has taken by at least `overlap`. Precision
    at a recall is the best one reached at that recall or a higher one. Nan when there is no true box.
    """
    wanted = sum(len(boxes) for boxes in truths)
    if not wanted:
        return float("nan")
    scores = torch.cat([scores for _, scores in found])
    images = zip(found, truths, strict=True)
    right = torch.cat([_right(boxes, scores, true, overlap) for (boxes, scores), true in images])
    right = right[torch.argsort(scores, descending=True, stable=True)].double()
    recall = torch.cumsum(right, 0) / wanted
    precision = torch.cumsum(right, 0) / torch.arange(1, len(right) + 1)
    best = precision.flip(0).cummax(0).values.flip(0) if len(right) else precision
    return float((best * torch.diff(recall, prepend=recall.new_zeros(1))).sum())


def mean_average_precision(
    detections: Sequence[Detections],
    truths: Sequence[tuple[Tensor, Tensor]],
    classes: int,
    overlaps: Sequence[float] = (0.5,),
) -> float:
    """Return the mean of average precision over those classes that have true boxes, and over the overlaps.

    `detections` holds the Detections of every image, `truths` its boxes and classes. Nan without any true box.
    """
    values: list[float] = []
    for number in range(classes):
        found = [(boxes[kind == number].cpu(), scores[kind == number].cpu()) for boxes, scores, kind in detections]
        true = [boxes[kind == number].cpu() for boxes, kind in truths]
        if any(len(boxes) for boxes in true):
            values += [average_precision(found, true, overlap) for overlap in overlaps]
    return sum(values) / len(values) if values else float("nan")


def _right(boxes: Tensor, scores: Tensor, true: Tensor, overlap: float) -> Tensor:
    """Tell for every detection of one image whether it finds a true box of its own."""
    right = torch.zeros(len(boxes), dtype=torch.bool)
    if not len(true) or not len(boxes):
        return right
    overlaps = iou(boxes, true)
    for number in torch.argsort(scores, descending=True, stable=True).tolist():
        best, place = overlaps[number].max(dim=0)
        if best >= overlap:
            right[number] = True
            overlaps[:, place] = -1
    return right
