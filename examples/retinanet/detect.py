"""Tests a trained run on receipts that it never learnt from: mean average precision, and a picture of what it finds.

python detect.py runs/receipts --out detections.png

takes the run's newest whole checkpoint. In the picture, true boxes are green, found ones red with their score.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.trainer import data, models
from hpcsynapse.trainer.checkpoint import Checkpoints
from hpcsynapse.trainer.models.retinanet.evaluation import mean_average_precision as right
from hpcsynapse.trainer.models.retinanet.network import truth

OVERLAPS = tuple(0.5 + 0.05 * step for step in range(10))  # those of COCO
BATCH = 8
COLUMNS, ZOOM = 4, 2
TRUE, FOUND = (0, 160, 60), (220, 30, 30)


def load(run):
    """Return a run's model at its newest whole checkpoint, that one's step, validation samples."""
    train, checkpoints = run.load_spec().train, Checkpoints(run.checkpoints, keep=1)
    step = checkpoints.newest()
    if step is None:
        raise SystemExit(f"{run.checkpoints} holds no checkpoint: train first, with train.checkpoint_every above 0")
    model = models.create(train.model, train.model_args)
    model.load_state_dict(torch.load(checkpoints.path(step), map_location="cpu", weights_only=True)["model"])
    samples = data.load(train.data, train.data_path, train.data_args).validation
    return model.eval(), step, samples


@torch.no_grad()
def detect(model, samples):
    """Return the images, what the model finds in each, and what is there."""
    images, found, true = [], [], []
    for first in range(0, len(samples), BATCH):
        inputs, targets = samples.batch(np.arange(first, min(first + BATCH, len(samples))))
        images += inputs
        found += model.detect(model(inputs))
        true += [truth(lines) for lines in targets]
    return images, found, true


def picture(images, found, true, least):
    """Return the first receipts side by side with the boxes on them."""
    height, width = (ZOOM * side for side in images[0].shape[1:])
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (width * min(COLUMNS, len(images)), height * rows), "white")
    for number, (image, detections, (boxes, _)) in enumerate(zip(images, found, true, strict=True)):
        pixels = ((image[0] + 1) * 127.5).clamp(0, 255).byte().numpy()
        place = Image.fromarray(pixels).resize((width, height)).convert("RGB")
        draw = ImageDraw.Draw(place)
        for box in boxes.tolist():
            draw.rectangle([ZOOM * side for side in box], outline=TRUE)
        for box, score in zip(detections.boxes.tolist(), detections.scores.tolist(), strict=True):
            if score >= least:
                draw.rectangle([ZOOM * side for side in box], outline=FOUND)
                draw.text((ZOOM * box[2] + 3, ZOOM * box[1]), f"{score:.2f}", FOUND, ImageFont.load_default(12))
        sheet.paste(place, (width * (number % COLUMNS), height * (number // COLUMNS)))
    return sheet


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument("--out", type=Path, default=Path("detections.png"), help="the picture [detections.png]")
    parser.add_argument("--show", type=int, default=8, help="receipts in the picture [8]")
    parser.add_argument("--score", type=float, default=0.5, help="least score of a box in picture and count [0.5]")
    arguments = parser.parse_args()
    model, step, samples = load(RunDirectory(arguments.run))
    images, found, true = detect(model, samples)
    print(f"{arguments.run}, step {step}: {len(images)} receipts, {sum(len(boxes) for boxes, _ in true)} lines")
    print(f"mAP@0.50       {right(found, true, model.classes):.4f}")
    print(f"mAP@0.75       {right(found, true, model.classes, (0.75,)):.4f}")
    print(f"mAP@0.50:0.95  {right(found, true, model.classes, OVERLAPS):.4f}")
    shown = slice(max(1, arguments.show))
    picture(images[shown], found[shown], true[shown], arguments.score).save(arguments.out)
    print(f"{arguments.out}: the first {len(images[shown])} with what scores {arguments.score:g} or more")


if __name__ == "__main__":
    main()
