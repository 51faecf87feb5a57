"""Receipts as generate.py writes them: DATA_PATH/train and DATA_PATH/validation, images and lines.csv in each."""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

COORDINATES = ("x1", "y1", "x2", "y2")


class UserDataset:
    part = "train"

    def __init__(self, data_path):
        self.folder = Path(data_path or ".") / self.part
        if not (self.folder / "lines.csv").is_file():
            raise FileNotFoundError(f"{self.folder} holds no lines.csv: draw some with generate.py")
        self.boxes = read(self.folder / "lines.csv")
        self.images = sorted(path.name for path in self.folder.glob("*.png"))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        """Return an image (1, H, W) between -1 and 1 and its lines (n, 5)."""
        name = self.images[index]
        with Image.open(self.folder / name) as file:
            pixels = torch.from_numpy(np.array(file.convert("L"), dtype=np.float32))
        return pixels[None] / 127.5 - 1, torch.tensor(self.boxes.get(name, [])).reshape(-1, 5)

    def collate(self, samples):
        """Return images (N, 1, H, W) of equal size and lines (N, most lines, 5), filled up with rows of class -1."""
        images, lines = zip(*samples, strict=True)
        return torch.stack(images), torch.nn.utils.rnn.pad_sequence(lines, batch_first=True, padding_value=-1.0)


class UserValDataset(UserDataset):
    part = "validation"


def read(path):
    """Return {image: [[x1, y1, x2, y2, class 0], ...]}; raises ValueError naming the line of a box that is none."""
    found = {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            try:
                x1, y1, x2, y2 = box = [float(row[name]) for name in COORDINATES]
            except (KeyError, TypeError, ValueError):
                raise ValueError(f"{path}:{rows.line_num}: wanted image, x1, y1, x2, y2, not {row}") from None
            if not (0 <= x1 < x2 and 0 <= y1 < y2):
                raise ValueError(f"{path}:{rows.line_num}: {box} is no box: x1 < x2 and y1 < y2 are wanted")
            found.setdefault(row["image"], []).append([*box, 0.0])
    return found
