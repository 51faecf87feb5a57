"""Synthetic data that takes its time, as a user's own data set would be given."""

import os
import pathlib
import time

from hpcsynapse.trainer.data.synthetic import SyntheticDataset

SECONDS = float(os.environ.get("SLOW_DATA_SECONDS", "0"))


class SlowDataset(SyntheticDataset):
    def batch(self, indices):
        time.sleep(SECONDS)
        return super().batch(indices)


class Validation(SyntheticDataset):
    """Validation samples that take a second each, until there is a file `hurry` in the run directory."""

    def batch(self, indices):
        if not pathlib.Path(os.environ["HPCSYNAPSE_RUN_DIR"], "hurry").exists():
            time.sleep(len(indices))
        return super().batch(indices)


def long_validation(path):
    return SlowDataset(96, (1, 8, 8), 10, seed=0), Validation(600, (1, 8, 8), 10, seed=1)


def load(path):
    return SlowDataset(96, (1, 8, 8), 10, seed=0)


class Counted(SlowDataset):
    """Samples whose numbers are written down whenever a rank takes them."""

    def batch(self, indices):
        with pathlib.Path(os.environ["HPCSYNAPSE_RUN_DIR"], f"taken-{os.environ.get('RANK', 0)}").open("a") as file:
            file.write("".join(f"{index}\n" for index in indices))
        return super().batch(indices)


def counted(path):
    return Counted(96, (1, 8, 8), 10, seed=0)
