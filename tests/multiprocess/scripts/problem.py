"""A small problem for all scripts here; a step takes some milliseconds."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, SAMPLES, BATCH = 2, 330, 16  # the last batch of an epoch is smaller
torch.manual_seed(0)
torch.set_num_threads(1)
loss_of = nn.functional.cross_entropy


class Slow(nn.Module):
    def forward(self, inputs):
        time.sleep(0.004)
        return inputs


def data() -> TensorDataset:
    return TensorDataset(torch.randn(SAMPLES, 8), torch.randint(0, 3, (SAMPLES,)))


def loader(**options) -> DataLoader:
    return DataLoader(data(), **{"batch_size": BATCH, "shuffle": True, **options})


def model() -> nn.Module:
    return nn.Sequential(Slow(), nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
