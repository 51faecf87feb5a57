"""Synthetic data that one rank cannot read after some steps."""

import os

from hpcsynapse.trainer.data.synthetic import SyntheticDataset


class FailingDataset(SyntheticDataset):
    taken = 0

    def batch(self, indices):
        self.taken += 1
        if os.environ["RANK"] == "1" and self.taken == 5:
            raise RuntimeError("the disk of rank 1 is gone")
        return super().batch(indices)


def load(path):
    return FailingDataset(96, (1, 8, 8), 10, seed=0)
