"""Data as hpcsynapse and BK.Synapse take them: classes made with the data path, here without any files."""

from drawing import draw
from torch import stack, tensor

SAMPLES = {"train": 640, "validation": 160}


class UserDataset:
    part = "train"

    def __init__(self, data_path):
        self.data_path = data_path  # where the files would lie

    def __len__(self):
        return SAMPLES[self.part]

    def __getitem__(self, index):
        label = index % 10
        return draw(label, seed=index + 1000 * (self.part == "train")), label

    def collate(self, samples):
        images, labels = zip(*samples, strict=True)
        return stack(images), tensor(labels)


class UserValDataset(UserDataset):
    part = "validation"
