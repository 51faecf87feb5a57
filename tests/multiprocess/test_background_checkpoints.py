"""Checkpoints written beside the steps: of runs that are killed in the middle of a write, and on a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest
import torch
from jobs import HERE, LIMIT, Job, Starter, missing, parameters
from waiting import wait_until

from hpcsynapse.trainer.checkpoint import Checkpoints

SETTINGS: dict[str, Any] = {
    "engine": "ddp",
    "data": "slow_data:load",
    "data_args": {},
    "model_args": {"dropout": 0.3, "shape": [1, 8, 8]},
    "batch": 8,
    "steps": 40,
    "checkpoint_every": 1000,
    "checkpoint_seconds": 0.2,
}


def slow(monkeypatch: pytest.MonkeyPatch, batch: float, disk: float) -> None:
    """Let every batch take seconds, and every file that is to last."""
    monkeypatch.setenv("SLOW_DATA_SECONDS", str(batch))
    monkeypatch.setenv("SLOW_FSYNC", str(disk))
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{HERE / 'slow_fsync'}" if disk else str(HERE))


def under_way(job: Job) -> bool:
    return any(job.run.checkpoints.glob(".step-*.pt.*"))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_in_the_middle_of_a_write(starter: Starter, monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    """Steps go on while a checkpoint is written; the one before is taken up, and the result is the same bit by bit."""
    slow(monkeypatch, 0.0, 0.0)
    undisturbed = starter("undisturbed", ranks, **SETTINGS).succeed()
    slow(monkeypatch, 0.1, 1.0)
    run = starter.create("killed", ranks, **SETTINGS)
    for _ in range(2):
        job = starter.start(run, ranks)
        before = Checkpoints(run.checkpoints, 2).steps()[:1]
        wait_until(lambda job=job: under_way(job), LIMIT, "a checkpoint under way")  # type: ignore[misc]
        began = job.status().get("step", 0)
        wait_until(
            lambda job=job, before=before: Checkpoints(run.checkpoints, 2).steps()[:1] != before and under_way(job),  # type: ignore[misc]
            LIMIT,
            "another one, after one that is whole",
        )
        first = {path.name for path in run.checkpoints.glob(".step-*")}
        wait_until(lambda job=job, began=began: job.status().get("step", 0) > began, LIMIT, "steps")  # type: ignore[misc]
        for pid in job.ranks():
            os.kill(pid, signal.SIGKILL)
        job.wait()
        assert len(first) == 1, "two checkpoints were being written"
        newest = Checkpoints(run.checkpoints, 2).newest()
        assert newest is not None and newest < 40
        run.status.unlink()
    slow(monkeypatch, 0.0, 0.0)
    last = starter.start(run, ranks)
    last.succeed()
    assert f"resumed from step {newest} " in last.output()
    assert not under_way(last)
    expected, found = parameters(undisturbed), parameters(run)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    told = last.status()
    assert told["checkpoint_stop_s"] >= 0 and told["checkpoint_write_s"] > 0 and told["checkpoint_every_s"] == 0.2


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_both_sizes(starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write fails beside the steps; the run says so, and keeps the checkpoint before."""
    slow(monkeypatch, 0.05, 0.0)
    run = starter.create("full", 2, **{**SETTINGS, "keep_checkpoints": 1, "steps": 10**6})
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(run.checkpoints)]
    mounted = subprocess.run(command, capture_output=True)
    if mounted.returncode:
        missing(f"no file system can be mounted: {mounted.stderr.decode()}")
    try:
        job = starter.start(run, 2)
        wait_until(lambda: bool(Checkpoints(run.checkpoints, 1).steps()), LIMIT, "a checkpoint")
        subprocess.run(f"head -c 2M /dev/zero > {run.checkpoints}/rest", shell=True, stderr=subprocess.DEVNULL)
        assert any(job.wait())
        told = job.status()
        assert told["state"] == "FAILED"
        assert "cannot be written: it takes" in told["reason"] and "are free" in told["reason"], told
        assert len(Checkpoints(run.checkpoints, 1).steps()) == 1
        assert Checkpoints(run.checkpoints, 1).newest() is not None
    finally:
        subprocess.run(["umount", "--lazy", str(run.checkpoints)], check=True)
