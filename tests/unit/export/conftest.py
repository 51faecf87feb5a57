"""A small run with steps, validations and a drift, as its ranks would have left it."""

from __future__ import annotations

import pytest

from hpcsynapse.files import append_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.timing import StepRecorder


def record(run: RunDirectory, steps: range, ranks: int = 2) -> None:
    """Steps of 0.5 s and 8 samples a rank; the loss of step n is 1 / (n + 1), that of step 3 is not known."""
    for rank in range(ranks):
        with StepRecorder(run.timings, rank=rank, world_size=ranks, strategy="allreduce", engine="ddp") as recorder:
            for step in steps:
                loss = float("nan") if step == 3 else 1 / (step + 1)
                begin = 1.7e9 + 0.5 * step
                recorder.write(step, step // 4, begin, 0.125, 0.0625, 0.0625, 0.125, 0.125, 0.5, 8, loss)


@pytest.fixture
def run(tmp_path):
    found = RunDirectory.create(tmp_path / "runs", JobSpec(name="exported"))
    record(found, range(8))
    found.append_metrics(4, 1, 64, {"accuracy": 0.5})
    found.append_metrics(8, 2, 128, {"accuracy": 0.75, "größe": 2.0})
    append_json(found.drift, {"time": 1.7e9, "step": 4, "drift": 0.25})
    return found


@pytest.fixture
def record_steps():
    return record
