"""RetinaNet (Lin et al. 2017, "Focal loss for dense object detection") as BK.Synapse trained it on receipts.

Images are tensors (N, colours, H, W), targets (N, lines, 5): rows x1, y1, x2, y2 and class, of class -1 where an image
has fewer lines than another of its batch.
"""

import math

import torch
from anchors import RATIOS, SCALES, anchors
from backbones import BACKBONES
from boxes import clip, decode, nms
from evaluation import Detections, mean_average_precision
from fpn import FeaturePyramid, Head, prior_bias
from losses import detection_losses
from torch import nn


class UserModel(nn.Module):
    def __init__(self, backbone="resnet50", channels=256, depth=4, classes=1, colours=1, ratios=RATIOS):
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f"backbone {backbone!r} is none of {', '.join(BACKBONES)}")
        count = len(ratios) * len(SCALES)
        self.classes, self.ratios = classes, tuple(ratios)
        self.backbone = BACKBONES[backbone](colours)
        self.pyramid = FeaturePyramid(self.backbone.channels, channels)
        self.classifier = Head(channels, depth, count, classes, bias=prior_bias())
        self.regressor = Head(channels, depth, count, 4)

    def forward(self, images):
        """Return logits (N, A, classes), offsets (N, A, 4), their anchors (A, 4), and width and height of images."""
        levels = self.pyramid(self.backbone(images))
        places = [(stride, *level.shape[2:]) for stride, level in zip(FeaturePyramid.strides, levels, strict=True)]
        found = anchors(places, self.ratios, images.device)
        return self.classifier(levels), self.regressor(levels), found, (images.shape[3], images.shape[2])

    def loss(self, output, target):
        return sum(self.losses(output, target))

    def losses(self, output, target):
        """Return focal loss and smooth L1, means over the images."""
        logits, offsets, places, _ = output
        images = zip(logits, offsets, target, strict=True)
        parts = [detection_losses(*found, places, *truth(lines)) for *found, lines in images]
        return [torch.stack(part).mean() for part in zip(*parts, strict=True)]

    def metrics(self, output, target):
        """Return both losses, and the mean over images of each image's own average precision.

        It is not that of the data set, for which detect.py ranks the scores of all images together.
        """
        focal, l1 = self.losses(output, target)
        values = []
        for found, lines in zip(self.detect(output), target, strict=True):
            value = mean_average_precision([found], [truth(lines)], self.classes)
            values.append(float(not len(found.boxes)) if math.isnan(value) else value)
        return {"focal_loss": focal, "smooth_l1": l1, "image_ap50": sum(values) / len(values)}

    def detect(self, output, least=0.05, most=300, overlap=0.5):
        """Return the Detections of every image, best first.

        Of the `most` best scores above `least`, those stay that overlap no better one of their class by more.
        """
        logits, offsets, places, size = output
        return [self._detect(*found, places, size, least, most, overlap) for found in zip(logits, offsets, strict=True)]

    def _detect(self, logits, offsets, places, size, least, most, overlap):
        scores, numbers = torch.sigmoid(logits).flatten().topk(min(most, logits.numel()))
        scores, numbers = scores[scores > least], numbers[scores > least]
        place, kind = numbers // self.classes, numbers % self.classes
        boxes = clip(decode(places[place], offsets[place]), *size)
        apart = kind[:, None] * 2.0 * max(size)  # boxes of different classes never meet
        stays = nms(boxes + apart, scores, overlap)
        return Detections(boxes[stays], scores[stays], kind[stays])


def truth(lines):
    """Return boxes (n, 4) and classes (n,) of one image, without the rows that fill up."""
    lines = lines[lines[:, 4] >= 0]
    return lines[:, :4], lines[:, 4].long()
