"""Synthetic data that takes its time, as a user's own data set would be given."""

import os
import time

from hpcsynapse.trainer.data.synthetic import SyntheticDataset

SECONDS = float(os.environ.get("SLOW_DATA_SECONDS", "0"))


class SlowDataset(SyntheticDataset):
    def batch(self, indices):
        time.sleep(SECONDS)
        return super().batch(indices)


def load(path):
    return SlowDataset(96, (1, 8, 8), 10, seed=0)
