"""A rank that dies or hangs ends the run within a limit, never leaves it waiting."""

from __future__ import annotations

import os
import signal
import time

import pytest
from jobs import HERE, LIMIT, Starter, gone, need

FOREVER = {"steps": 10**7, "batch": 8, "validate_every": 0, "checkpoint_every": 0}
ENGINES = [("ddp", ""), ("mpi", "mpirun"), ("horovod", "mpirun"), ("horovod", "horovodrun")]


@pytest.mark.parametrize(("engine", "launcher"), ENGINES)
def test_killed_rank(starter: Starter, engine: str, launcher: str) -> None:
    need(engine)
    job = starter("killed", 2, launcher, engine=engine, **FOREVER)
    job.until_step(5)
    os.kill(max(job.ranks()), signal.SIGKILL)
    assert all(job.wait()), job.output()
    gone(job)


@pytest.mark.parametrize(("engine", "launcher"), ENGINES[:3])
def test_hanging_rank(starter: Starter, engine: str, launcher: str) -> None:
    """SIGSTOP: the connection stays, nothing comes. The others end themselves after wait_limit."""
    need(engine)
    job = starter("hanging", 2, launcher, engine=engine, wait_limit=12.0, **FOREVER)
    job.until_step(5)
    victim = max(job.ranks())
    os.kill(victim, signal.SIGSTOP)
    end = time.monotonic() + LIMIT
    while len(job.ranks()) > 1 and time.monotonic() < end:
        time.sleep(0.1)
    assert len(job.ranks()) <= 1, f"still waiting: {job.output()[-3000:]}"
    os.kill(victim, signal.SIGCONT) if job.ranks() else None
    assert all(job.wait()), job.output()
    gone(job)


@pytest.mark.parametrize(("engine", "launcher"), ENGINES[:3])
def test_failing_rank(starter: Starter, monkeypatch: pytest.MonkeyPatch, engine: str, launcher: str) -> None:
    """An exception on one rank is in its log, and ends the others."""
    need(engine)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    settings = {**FOREVER, "data": "failing_data:load", "data_args": {}, "model_args": {"shape": [1, 8, 8]}}
    job = starter("failing", 2, launcher, engine=engine, **settings)
    assert all(job.wait()), job.output()
    assert "RuntimeError: the disk of rank 1 is gone" in job.output()
    gone(job)


def test_bad_description_fails_with_a_traceback(starter: Starter) -> None:
    job = starter("wrong", data="cifar10", data_args={})
    assert job.wait() == [1]
    assert "TrainError: data 'cifar10' reads files" in job.output()
    assert job.status()["state"] == "FAILED"
    assert "train.data_path" in job.run.read_history()[-1]["reason"]
