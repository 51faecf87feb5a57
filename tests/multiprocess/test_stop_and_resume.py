"""Stopping and continuing: the parameters are those of the run that was never interrupted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from jobs import HERE, LIMIT, Job, Starter, need, parameters

from hpcsynapse.runs.directory import RunDirectory

# Dropout is on: a resumed run must draw the same random numbers too.
STEPS = 40
SETTINGS: dict[str, Any] = {
    "data": "slow_data:load",
    "data_args": {},
    "model_args": {"dropout": 0.3, "shape": [1, 8, 8]},
    "batch": 8,
    "steps": STEPS,
    "checkpoint_every": 1000,
}
Uninterrupted = Callable[[int], RunDirectory]


def pace(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make every batch take so long that a test can act between steps (see slow_data.py)."""
    monkeypatch.setenv("SLOW_DATA_SECONDS", str(seconds))
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture(scope="module")
def uninterrupted(references: Starter) -> Uninterrupted:
    """Return the run of SETTINGS that was left alone, by number of ranks; engine ddp."""

    @cache
    def whole(ranks: int) -> RunDirectory:
        return references(f"whole-{ranks}", ranks, engine="ddp", **SETTINGS).succeed()

    return whole


def stop(job: Job, how: str) -> None:
    if how == "file":
        job.run.request_stop("test")
    else:
        os.kill(job.ranks()[-1], signal.Signals[how])


def wait_for(condition: Callable[[], bool], job: Job) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end and any(process.poll() is None for process in job.processes), job.output()
        time.sleep(0.05)


def equal(first: RunDirectory, second: RunDirectory, exactly: bool) -> None:
    expected, found = parameters(first), parameters(second)
    for name, value in expected.items():
        if exactly:
            assert torch.equal(found[name], value), name
        else:
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("ranks", "engine", "launcher", "how"),
    [
        (1, "ddp", "", "file"),
        (2, "ddp", "", "SIGTERM"),
        (2, "mpi", "mpirun", "SIGUSR1"),
        (2, "horovod", "mpirun", "file"),
    ],
)
def test_stopped_in_mid_epoch_and_resumed(
    starter: Starter,
    uninterrupted: Uninterrupted,
    monkeypatch: pytest.MonkeyPatch,
    ranks: int,
    engine: str,
    launcher: str,
    how: str,
) -> None:
    need(engine)
    pace(monkeypatch, 0.15)
    job = starter("stopped", ranks, launcher, engine=engine, **SETTINGS)
    job.until_step(2)
    stop(job, how)
    run = job.succeed()
    status = job.status()
    assert status["state"] == "STOPPED", job.output()
    steps_per_epoch = 96 // 8 // ranks
    assert 2 <= status["step"] < STEPS
    assert (run.checkpoints / f"step-{status['step']:09d}.pt").is_file()
    assert run.read_history()[-1]["state"] == "STOPPED"
    run.stop.unlink(missing_ok=True)
    pace(monkeypatch, 0.0)
    resumed = starter.start(run, ranks, launcher)
    resumed.succeed()
    assert resumed.status()["state"] == "FINISHED"
    epoch = (status["step"] - 1) // steps_per_epoch  # stopped behind its last step, an epoch is still to be closed
    assert f"resumed from step {status['step']} in epoch {epoch + 1}" in resumed.output()
    equal(uninterrupted(ranks), run, exactly=engine == "ddp")


@pytest.mark.parametrize("how", ["SIGTERM", "file"])
def test_a_stop_during_a_long_validation(starter: Starter, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The epoch has been saved before; the validation is left, and made when the run goes on."""
    pace(monkeypatch, 0.0)
    job = starter(
        "long",
        2,
        engine="ddp",
        wait_limit=90.0,
        **{**SETTINGS, "data": "slow_data:long_validation", "batch": 2, "steps": 24, "checkpoint_every": 1},
    )
    wait_for(lambda: job.status().get("state") == "EVALUATING", job)
    if how == "file":
        stop(job, how)
    else:  # as a queue sends it: to all ranks
        for pid in job.ranks():
            os.kill(pid, signal.SIGTERM)
    run = job.succeed()
    assert (job.status()["state"], job.status()["step"]) == ("STOPPED", 24), job.output()
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000000024.pt"]
    assert run.read_metrics() == []
    run.stop.unlink(missing_ok=True)
    (run.path / "hurry").touch()
    resumed = starter.start(run, 2)
    resumed.succeed()
    assert resumed.status()["state"] == "FINISHED"
    assert [point["step"] for point in run.read_metrics()] == [24]


def test_an_epoch_saved_and_not_validated_is_validated_on_resuming(
    starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace(monkeypatch, 0.0)
    job = starter(
        "owed",
        2,
        engine="ddp",
        wait_limit=90.0,
        **{**SETTINGS, "data": "slow_data:long_validation", "batch": 8, "steps": 12, "checkpoint_every": 1},
    )
    wait_for(lambda: job.status().get("state") == "EVALUATING", job)
    wait_for(lambda: any(job.run.checkpoints.glob("step-*.pt")), job)  # written beside the validation
    for pid in job.ranks():
        os.kill(pid, signal.SIGKILL)
    assert any(job.wait())
    run = job.run
    (run.path / "hurry").touch()
    resumed = starter.start(run, 2)
    resumed.succeed()
    assert "resumed from step 6 " in resumed.output()
    assert [point["step"] for point in run.read_metrics()] == [6, 12]


def test_stop_waits_for_no_step(starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop is seen within a second or two although steps are far faster than that."""
    job = starter("fast", steps=10**7, batch=4, validate_every=0, checkpoint_every=0)
    job.until_step(200)
    asked = time.monotonic()
    job.run.request_stop("test")
    job.succeed()
    assert time.monotonic() - asked < 30  # generous: other work runs here
    assert job.status()["state"] == "STOPPED"


def test_finished_run_is_left_as_it_is(starter: Starter) -> None:
    run = starter("done", steps=5, batch=8).succeed()
    before = parameters(run)
    starter.start(run).succeed()
    assert all(torch.equal(before[name], value) for name, value in parameters(run).items())
    assert run.read_history()[-1]["state"] == "FINISHED"


def test_damaged_newest_checkpoint(starter: Starter) -> None:
    run = starter("damaged", epochs=3, batch=8).succeed()
    newest = sorted(run.checkpoints.glob("step-*.pt"))[-1]
    expected = parameters(run)
    newest.write_bytes(newest.read_bytes()[:1000])
    job = starter.start(run)
    job.succeed()
    assert "is damaged" in job.output()
    assert "resumed from step 24" in job.output()
    assert all(torch.equal(expected[name], value) for name, value in parameters(run).items())


def test_resumed_with_another_number_of_ranks(starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks stop in the middle of an epoch; four with half the batch go on, and one alone with twice the batch."""
    plain = {**SETTINGS, "engine": "ddp", "model_args": {"dropout": 0.0, "shape": [1, 8, 8]}}
    pace(monkeypatch, 0.0)
    expected = starter("expected", 2, **plain).succeed()
    pace(monkeypatch, 0.15)
    job = starter("moved", 2, **plain)
    job.until_step(8)  # an epoch has 6 steps
    stop(job, "file")
    job.succeed()
    assert job.status()["state"] == "STOPPED" and job.status()["step"] < STEPS
    pace(monkeypatch, 0.0)
    for ranks in (4, 1):
        run = RunDirectory(job.run.path.with_name(f"moved-{ranks}"))
        shutil.copytree(job.run.path, run.path, ignore=shutil.ignore_patterns("stop"))
        text = run.run_toml.read_text()
        assert "\nbatch = 8\n" in text
        run.run_toml.write_text(text.replace("\nbatch = 8\n", f"\nbatch = {16 // ranks}\n"))
        resumed = starter.start(run, ranks)
        resumed.succeed()
        assert f"resumed from step {job.status()['step']} " in resumed.output()
        assert resumed.status()["step"] == STEPS
        equal(expected, run, exactly=False)


def test_every_sample_once_an_epoch_whatever_the_number_of_ranks(
    starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks stop in the middle of an epoch, three go on and stop, two end it: 3 epochs of 96 samples."""
    settings = {**SETTINGS, "engine": "ddp", "data": "slow_data:counted", "batch": 4, "steps": None, "epochs": 3}
    run = starter.create("elastic", 2, **settings)
    for ranks, until in ((2, 2), (3, 5)):
        pace(monkeypatch, 0.15)
        job = starter.start(run, ranks)
        job.until_step(until)
        stop(job, "file")
        job.succeed()
        run.stop.unlink()
    pace(monkeypatch, 0.0)
    last = starter.start(run, 2)
    last.succeed()
    assert last.status()["state"] == "FINISHED" and last.status()["epoch"] == 3
    taken = Counter(line for path in run.path.glob("taken-*") for line in path.read_text().splitlines())
    assert len(taken) == 96 and max(taken.values()) == 3, "nothing twice in an epoch"
    assert sum(3 - count for count in taken.values()) < 2 * 8, "what fills no whole step of the last ranks of an epoch"
    told = [item for item in run.read_history() if "global_batch" in item]
    assert [(item["ranks"], item["global_batch"], item["lr"]) for item in told] == [(3, 12, 0.05), (2, 8, 0.05)]
    assert told[0]["reason"].startswith("3 ranks x 4 samples go on instead of 2 x 4; the learning rate stays")


def test_killed_outright_several_times(
    starter: Starter, uninterrupted: Uninterrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at any moment costs the steps since the last checkpoint and changes nothing else."""
    pace(monkeypatch, 0.08)  # the step is seen once a second, so up to 13 steps later
    run = starter.create("killed", **{**SETTINGS, "checkpoint_every": 1})
    for moment in (3, 13):  # an epoch has 12 steps
        job = starter.start(run)
        job.until_step(moment)
        os.kill(job.ranks()[0], signal.SIGKILL)
        assert any(job.wait())
        run.status.unlink()
    pace(monkeypatch, 0.0)
    last = starter.start(run)
    last.succeed()
    assert re.search(r"resumed from step (12|24|36) ", last.output())
    equal(uninterrupted(1), run, exactly=True)


def test_saved_by_the_clock_within_an_epoch_and_killed(
    starter: Starter, uninterrupted: Uninterrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs may take hours: a run that is killed has lost no more than the seconds between checkpoints."""
    pace(monkeypatch, 0.3)
    job = starter("clock", 2, engine="ddp", **{**SETTINGS, "checkpoint_seconds": 0.5, "keep_checkpoints": 1000})
    wait_for(lambda: len(list(job.run.checkpoints.glob("step-*.pt"))) > 2, job)
    for pid in job.ranks():
        os.kill(pid, signal.SIGKILL)
    job.wait()
    steps = sorted(int(path.stem[5:]) for path in job.run.checkpoints.glob("step-*.pt"))
    per_epoch = job.status()["steps_per_epoch"]
    assert any(step % per_epoch for step in steps), (steps, per_epoch)
    assert steps[-1] < STEPS
    pace(monkeypatch, 0)
    again = starter.start(job.run, 2)
    again.succeed()
    assert f"resumed from step {steps[-1]} " in again.output()
    equal(uninterrupted(2), job.run, exactly=True)
