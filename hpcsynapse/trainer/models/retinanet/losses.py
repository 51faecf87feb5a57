"""What the network is trained by: which anchor stands for which box, focal loss, smooth L1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hpcsynapse.trainer.models.retinanet.boxes import encode, iou

BACKGROUND, IGNORED = -1, -2
NEAR, FAR = 0.5, 0.4  # an anchor stands for a box from the first overlap on, for background below the second
ALPHA, GAMMA = 0.25, 2.0
BETA = 1 / 9


def match(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return for every anchor the number of the box that it stands for, BACKGROUND, or IGNORED between the two.

    Every box also takes the anchor that overlaps it most, however little that is.
    """
    if not len(boxes):
        return torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    overlaps = iou(anchors, boxes)
    best, found = overlaps.max(dim=1)
    found[best < NEAR] = IGNORED
    found[best < FAR] = BACKGROUND
    most, places = overlaps.max(dim=0)
    found[places[most > 0]] = torch.nonzero(most > 0)[:, 0]
    return found


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of -alpha_t (1 - p_t)^gamma log(p_t) over logits and targets 0 or 1 (Lin et al. 2017, eq. 5)."""
    log_p = -functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    alpha = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    return -(alpha * (1 - log_p.exp()) ** GAMMA * log_p).sum()


def smooth_l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the sum of d^2 / (2 beta) for differences d below beta, |d| - beta / 2 above."""
    return functional.smooth_l1_loss(found, wanted, beta=BETA, reduction="sum")


def detection_losses(
    logits: Tensor, offsets: Tensor, anchors: Tensor, boxes: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return focal loss and smooth L1 of one image, each divided by its number of anchors that stand for a box.

    Shapes: logits (A, classes), offsets and anchors (A, 4), boxes (n, 4) and their classes (n,).
    """
    found = match(anchors, boxes)
    near = found >= 0
    count = near.sum().clamp(min=1)
    targets = torch.zeros_like(logits)
    targets[near, classes[found[near]]] = 1
    seen = found != IGNORED
    wanted = encode(anchors[near], boxes[found[near]])
    return focal_loss(logits[seen], targets[seen]) / count, smooth_l1(offsets[near], wanted) / count
