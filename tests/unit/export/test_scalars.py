"""What becomes a scalar: numbers with a step and a time, of any kind of run; what is none is passed over."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from hpcsynapse.errors import RecordError
from hpcsynapse.export.scalars import scalars_of
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.timing import StepRecorder


def test_an_asynchronous_run_has_loss_and_rate_by_slices(tmp_path) -> None:
    for rank in range(2):
        with mock.patch.dict(os.environ, {"WORLD_SIZE": "2"}):
            recorder = StepRecorder(tmp_path, rank=rank, warmup=0, strategy="ps-async", engine="none")
        with recorder:
            for step in range(200):
                recorder.write(step, 0, 1000.0 + 0.1 * step, 0, 0, 0, 0, 0, 0.1, 8, 2.0)
    found = {one.name: one for one in scalars_of(tmp_path)}
    assert found.keys() == {"train/loss", "train/samples_per_s"}
    rates = found["train/samples_per_s"]
    assert rates.values.tolist() == pytest.approx([160.0] * len(rates.values), rel=0.05)
    assert rates.steps.tolist() == list(range(len(rates.values)))
    assert set(found["train/loss"].values) == {2.0}


def test_validations_alone_are_enough_and_damaged_lines_are_passed_over(tmp_path) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="run"))
    with pytest.raises(RecordError):
        scalars_of(run)
    run.append_metrics(8, 1, 64, {"accuracy": 0.75})
    run.append_metrics(4, 0, 32, {"accuracy": 0.5})
    with run.metrics.open("a") as file:
        for told in ('"step": -1', '"step": "x"', '"step": 1e99', '"step": true', '"step": 9, "time": 1e300'):
            file.write(f'{{"time": 1.7e9, {told}, "samples": 1, "accuracy": 0.1}}\n')
        file.write('{"time": 1.7e9, "step": 9, "samples": 1, "accuracy": "much", "note": [1]}\n{"time": ')
    (one,) = scalars_of(run)
    assert (one.name, one.steps.tolist(), one.values.tolist()) == ("validation/accuracy", [4, 8], [0.5, 0.75])
