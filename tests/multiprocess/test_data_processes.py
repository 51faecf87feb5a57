"""Processes that prepare batches, within whole runs: same result, stop and resume, and what becomes of a lost one."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from jobs import HERE, Job, Starter, gone, parameters

from hpcsynapse.trainer.data import generate


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that still are there."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ranks(job: Job) -> list[int]:
    """Return the ranks alone: the processes that they fork have the same command line."""
    found = job.ranks()
    return [pid for pid in found if not any(pid in children(other) for other in found)]


def test_stopped_by_a_signal_to_all_and_resumed(starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a queue sends it, also to the processes; parameters end as those of a rank that prepares its own batches."""
    settings = {
        "data": "slow_data:load",
        "data_args": {},
        "model_args": {"dropout": 0.3, "shape": [1, 8, 8]},
        "batch": 8,
        "steps": 40,
        "augment": True,
        "checkpoint_every": 1000,
    }
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("SLOW_DATA_SECONDS", "0.2")
    job = starter("stopped", data_workers=2, **settings)
    job.until_step(2)
    assert len(job.ranks()) == 3
    for pid in job.ranks():
        os.kill(pid, signal.SIGTERM)
    run = job.succeed()
    status = job.status()
    assert status["state"] == "STOPPED" and 2 <= status["step"] < 40, job.output()
    gone(job)
    monkeypatch.setenv("SLOW_DATA_SECONDS", "0")
    resumed = starter.start(run)
    own = starter("own", **settings)
    resumed.succeed()
    assert f"resumed from step {status['step']} " in resumed.output()
    expected = parameters(own.succeed())
    assert all(torch.equal(expected[name], value) for name, value in parameters(run).items())


def test_a_killed_process_ends_the_run(starter: Starter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two ranks read the one copy that was made on their node, until a process of the second is killed."""
    scratch, source = tmp_path / "scratch", tmp_path / "cifar"
    scratch.mkdir(), source.mkdir()
    generate.cifar10(source, 240, 0, python=True)
    monkeypatch.setenv("NODE_SCRATCH", str(scratch))
    job = starter(
        "lost",
        2,
        engine="ddp",
        data="cifar10",
        data_args={},
        data_path=str(source),
        stage="$NODE_SCRATCH",
        data_workers=1,
        augment=True,
        batch=4,
        steps=10**7,
        validate_every=0,
        checkpoint_every=0,
    )
    job.until_step(3)
    for file in source.iterdir():
        assert len(list(scratch.rglob(file.name))) == 1
    assert job.output().count(f"staging {source} to {scratch}") == 1
    first, second = (children(pid) for pid in sorted(ranks(job)))
    assert len(first) == len(second) == 1
    os.kill(second[0], signal.SIGKILL)
    assert all(job.wait()), job.output()
    assert re.search(rf"DataLoader worker \(pid(\(s\))? {second[0]}\)", job.output()), job.output()
    gone(job)
