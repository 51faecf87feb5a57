"""What status tells of a user's own program: steps, rates and loss from its records, or why there are none."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpcsynapse.cli.progress import describe
from hpcsynapse.recording import environment
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.submission.status import RunStatus, statuses
from hpcsynapse.timing import StepRecorder


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    spec = JobSpec(name="own", command=("python", "train.py"), queue=QueueOptions(scheduler="local"))
    made = RunDirectory.create(tmp_path, spec)
    made.evidence("0").mkdir(parents=True)
    made.status.write_text(json.dumps({"state": "TRAINING", "time": 1.0, "attempt": "0"}))
    made.exit.write_text(json.dumps({"exit_code": 0, "time": 2.0}))
    return made


def status_of(run: RunDirectory) -> RunStatus:
    (found,) = statuses([run], {})
    return found


def record(run: RunDirectory, steps: int, **description: object) -> None:
    with StepRecorder(run.timings, rank=0, **description) as recorder:
        for step in range(steps):
            recorder.write(step, 1, 100.0 + step / 4, 0, 0, 0, 0, 0, 0.2, 32, 0.5)


def test_steps_rates_loss_and_time_left(run: RunDirectory) -> None:
    record(run, 101, world_size=4, steps_wanted=201)
    progress = status_of(run).progress
    assert (progress["step"], progress["steps"], progress["epoch"], progress["loss"]) == (101, 201, 1, 0.5)
    assert progress["steps_per_s"] == pytest.approx(4.0)
    assert progress["samples_per_s"] == pytest.approx(4 * 4 * 32)
    assert progress["eta_s"] == pytest.approx(25.0)
    assert "step 101/201  4 steps/s  512 samples/s  loss 0.5" in describe(status_of(run))


def test_the_loader_tells_how_long_its_epoch_goes_on(run: RunDirectory) -> None:
    run.exit.unlink()  # it goes on
    record(run, 101, steps_per_epoch=60)  # of the second epoch 19 are left
    progress = status_of(run).progress
    assert progress["epoch_eta_s"] == pytest.approx(19 / 4)
    assert "eta_s" not in progress
    status = replace(status_of(run), state=RunState.TRAINING, progress=progress)
    assert "5 s left of epoch 2" in describe(status)
    record(run, 101, steps_per_epoch=20)  # epochs of another length: nothing is said
    assert "epoch_eta_s" not in status_of(run).progress


@pytest.mark.parametrize("total", [0.1, 0.2, 0.30000001, 0.7])
def test_one_step_has_no_rate(run: RunDirectory, total: float) -> None:
    with StepRecorder(run.timings, rank=0, steps_wanted=9, steps_per_epoch=9) as recorder:
        recorder.write(0, 0, 1795915596.4095442, 0, 0, 0, 0, 0, total, 32, 0.5)
    assert {"samples_per_s", "eta_s", "epoch_eta_s"}.isdisjoint(status_of(run).progress)


def test_why_there_are_no_steps(run: RunDirectory) -> None:
    environment.remark_path(run.path, "0", 0).write_text(environment.NO_PYTHON + "\n")
    over = status_of(run)
    begun = replace(over, state=RunState.TRAINING, since=time.time())
    assert "no steps recorded" not in describe(begun)  # its modules may still be imported
    for found in (over, replace(begun, since=1.0)):
        assert f"no steps recorded: {environment.NO_PYTHON}" in describe(found)
    record(run, 3)
    assert "no steps recorded" not in describe(status_of(run))


def test_two_ranks_on_one_device_are_named(run: RunDirectory) -> None:
    record(run, 3)
    environment.shared_path(run.path, "0").write_text("ranks 0 and 1 on n1 both use device GPU-5\x1b[2J\n")
    assert "ranks 0 and 1 on n1 both use device GPU-5\\x1b[2J" in describe(status_of(run))
