"""Folders of user code for tests, written from texts."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

MODEL = """
import torch
from torch import nn

class UserModel(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.layer = nn.Linear(width, 3)

    def forward(self, inputs):
        return self.layer(inputs)

    def loss(self, output, target):
        return ((output - target) ** 2).mean()
"""

LOADER = """
import torch

class UserDataset:
    def __init__(self, data_path):
        self.data_path = data_path

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.full((2,), float(index)), torch.zeros(3)
"""


def write(folder: Path, **files: str) -> Path:
    """Write files (`a__b` is `a/b.py`) into a folder and return it."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/", 1) + ".py" if not name.startswith("__") else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return folder
