#!/usr/bin/env python3
"""What a checkpoint stops the steps for, written at once and beside the steps, and what it does to steps meanwhile.

    benchmarks/checkpoints.py FOLDER [--sizes 5,100,400] [--repeats 5]

FOLDER should lie where checkpoints lie. Sizes are MB of parameters and momenta. Prints CSV: the seconds that steps
stand still for a save written at once (`at_once_s`), and for the first and a later one beside the steps
(`first_copy_s`, `copy_s`), those of the write beside them (`write_s`), and the mean time of a step of about 20 ms
without a write and during one (`step_s`, `step_during_s`); medians over the repeats.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from statistics import median

import torch

from hpcsynapse.trainer.checkpoint import Checkpoints, Progress

STEP = 0.02  # seconds that a step is to take


def state_of(megabytes: float) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Return a model and its optimizer with so much state together, in layers of at most 4 MB."""
    elements = int(megabytes * 1e6 / 8)
    width = min(1000, int(elements**0.5))
    model = torch.nn.Sequential(
        *(torch.nn.Linear(width, width, bias=False) for _ in range(max(1, round(elements / width**2))))
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


class Work:
    """Steps of about STEP seconds of the processor each."""

    def __init__(self) -> None:
        self.matrix, self.count = torch.randn(300, 300), 1
        began = time.perf_counter()
        for _ in range(50):
            self.matrix @ self.matrix
        self.count = max(1, round(STEP / ((time.perf_counter() - began) / 50)))

    def step(self) -> None:
        """Make one step."""
        for _ in range(self.count):
            self.matrix @ self.matrix

    def mean(self, seconds: float) -> float:
        """Return the mean time of a step over so many seconds."""
        began, steps = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds or not steps:
            self.step()
            steps += 1
        return passed / steps


def measured(folder: Path, megabytes: float, work: Work, step: int) -> dict[str, float]:
    """Return one measurement; `step` numbers its checkpoints."""
    model, optimizer = state_of(megabytes)
    checkpoints = Checkpoints(folder, keep=1)
    began = time.perf_counter()
    checkpoints.save(model, optimizer, Progress(step=step), {})
    at_once = time.perf_counter() - began
    alone = work.mean(max(1.0, at_once))
    checkpoints.background = True
    began = time.perf_counter()
    checkpoints.save(model, optimizer, Progress(step=step + 1), {})
    first = time.perf_counter() - began
    checkpoints.wait()
    began = time.perf_counter()
    checkpoints.save(model, optimizer, Progress(step=step + 2), {})
    copied, steps = time.perf_counter() - began, 0
    began = time.perf_counter()
    while checkpoints.busy or not steps:
        work.step()
        steps += 1
    during = (time.perf_counter() - began) / steps
    checkpoints.wait()
    return {
        "at_once_s": at_once,
        "first_copy_s": first,
        "copy_s": copied,
        "write_s": checkpoints.write_s,
        "step_s": alone,
        "step_during_s": during,
    }


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default="5,100,400")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    work, rows = Work(), csv.writer(sys.stdout)
    rows.writerow(["megabytes", "at_once_s", "first_copy_s", "copy_s", "write_s", "step_s", "step_during_s"])
    for megabytes in map(float, given.sizes.split(",")):
        found = [measured(given.folder, megabytes, work, 3 * repeat) for repeat in range(given.repeats)]
        rows.writerow([megabytes, *(f"{median(one[name] for one in found):.4f}" for name in found[0])])


if __name__ == "__main__":
    main()
