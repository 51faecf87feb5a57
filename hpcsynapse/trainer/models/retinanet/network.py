"""RetinaNet (Lin et al. 2017, "Focal loss for dense object detection") as BK.Synapse trained it on receipts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpcsynapse.errors import TrainError
from hpcsynapse.trainer.models.image_shape import check_images
from hpcsynapse.trainer.models.retinanet.anchors import RATIOS, SCALES, anchors
from hpcsynapse.trainer.models.retinanet.backbones import BACKBONES
from hpcsynapse.trainer.models.retinanet.boxes import clip, decode, nms
from hpcsynapse.trainer.models.retinanet.evaluation import Detections, mean_average_precision
from hpcsynapse.trainer.models.retinanet.fpn import FeaturePyramid, Head, prior_bias
from hpcsynapse.trainer.models.retinanet.losses import detection_losses

Output = tuple[Tensor, Tensor, Tensor, tuple[int, int]]  # logits, offsets, anchors, width and height of the images


class RetinaNet(nn.Module):
    """Feature pyramid on ResNet-50, two heads, focal loss and smooth L1: 36,427,290 parameters for gray images.

    Images are tensors (N, C, H, W) of any size, targets (N, n, 5): rows x1, y1, x2, y2 and class, of class -1 where an
    image has fewer boxes than another of its batch. `backbone` is resnet50 or small; `channels` are those of the
    pyramid, `depth` the convolutions of a head before its last, `ratios` heights to widths of the anchors.
    Raises TrainError for arguments that do not fit.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 256, 192),
        classes: int = 1,
        backbone: str = "resnet50",
        channels: int = 256,
        depth: int = 4,
        ratios: Sequence[float] = RATIOS,
    ) -> None:
        super().__init__()
        colours, *_ = check_images("retinanet", shape, classes, least=32)
        _check(backbone, channels, depth, ratios)
        count = len(ratios) * len(SCALES)
        self.classes, self.ratios = classes, tuple(ratios)
        self.backbone = BACKBONES[backbone](colours)
        self.pyramid = FeaturePyramid(BACKBONES[backbone].channels, channels)
        self.classifier = Head(channels, depth, count, classes, bias=prior_bias())
        self.regressor = Head(channels, depth, count, 4)

    def forward(self, images: Tensor) -> Output:
        """Return logits (N, A, classes), offsets (N, A, 4), their anchors (A, 4), and width and height of images."""
        levels = self.pyramid(self.backbone(images))
        places = [(stride, *level.shape[2:]) for stride, level in zip(FeaturePyramid.strides, levels, strict=True)]
        found = anchors(places, self.ratios, images.device)
        return self.classifier(levels), self.regressor(levels), found, (images.shape[3], images.shape[2])

    def loss(self, output: Output, target: Any) -> Tensor:
        """Return the sum of focal loss and smooth L1; raises TrainError for targets that are no boxes."""
        focal, l1 = self.losses(output, target)
        return focal + l1

    def losses(self, output: Output, target: Any) -> tuple[Tensor, Tensor]:
        """Return focal loss and smooth L1, means over the images; raises TrainError as `loss` does."""
        logits, offsets, places, _ = output
        images = zip(logits, offsets, target if isinstance(target, Sequence) else _boxes(target), strict=True)
        parts = [detection_losses(one, moved, places, *truth(_boxes(boxes, 2))) for one, moved, boxes in images]
        focal, l1 = (torch.stack(part).mean() for part in zip(*parts, strict=True))
        return focal, l1

    def metrics(self, output: Output, target: Any) -> dict[str, float]:
        """Return both losses, and the mean over images of each image's own average precision.

        It is not that of the data set, for which the scores of all images are ranked together.
        """
        focal, l1 = self.losses(output, target)
        values = []
        for found, boxes in zip(self.detect(output), target, strict=True):
            value = mean_average_precision([found], [truth(boxes)], self.classes)
            values.append(float(not len(found.boxes)) if math.isnan(value) else value)
        return {"focal_loss": float(focal), "smooth_l1": float(l1), "image_ap50": sum(values) / len(values)}

    def detect(self, output: Output, least: float = 0.05, most: int = 300, overlap: float = 0.5) -> list[Detections]:
        """Return the Detections of every image, best first.

        Of the `most` best scores above `least`, those stay that overlap no better one of their class by more.
        """
        logits, offsets, places, size = output
        return [self._detect(*found, places, size, least, most, overlap) for found in zip(logits, offsets, strict=True)]

    def _detect(
        self,
        logits: Tensor,
        offsets: Tensor,
        places: Tensor,
        size: tuple[int, int],
        least: float,
        most: int,
        overlap: float,
    ) -> Detections:
        scores, numbers = torch.sigmoid(logits).flatten().topk(min(most, logits.numel()))
        scores, numbers = scores[scores > least], numbers[scores > least]
        place, kind = numbers // self.classes, numbers % self.classes
        boxes = clip(decode(places[place], offsets[place]), *size)
        apart = kind[:, None] * 2.0 * max(size)  # boxes of different classes never meet
        stays = nms(boxes + apart, scores, overlap)
        return Detections(boxes[stays], scores[stays], kind[stays])


def truth(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return boxes (n, 4) and classes (n,) of one image, without the rows that fill up."""
    boxes = boxes[boxes[:, 4] >= 0]
    return boxes[:, :4], boxes[:, 4].long()


def _boxes(target: Any, dimensions: int = 3) -> Tensor:
    if not isinstance(target, Tensor) or target.dim() != dimensions or target.shape[-1] != 5:
        form = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
        raise TrainError(
            f"retinanet takes boxes as targets, rows x1, y1, x2, y2, class of an image: (N, n, 5), not {form}"
        )
    return target


def _check(backbone: str, channels: int, depth: int, ratios: Sequence[float]) -> None:
    if backbone not in BACKBONES:
        raise TrainError(f"retinanet: backbone {backbone!r} is none of {', '.join(BACKBONES)}")
    for name, value, least in (("channels", channels, 1), ("depth", depth, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise TrainError(f"retinanet: {name} = {value!r} must be a whole number from {least} on")
    listed = isinstance(ratios, (list, tuple)) and len(ratios) > 0
    if not listed or not all(isinstance(one, (int, float)) and 0 < one < math.inf for one in ratios):
        raise TrainError(f"retinanet: ratios = {ratios!r} must be a list of positive numbers, height : width")
