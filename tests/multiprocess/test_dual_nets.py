"""Dual nets on two real processes: as backpropagation, whatever carries messages; stopped, killed, collapsed."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
import torch
from jobs import HERE, Starter, need, parameters

from hpcsynapse.report.dual import dual_report
from hpcsynapse.report.loading import load
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.training import DualOptions, TrainSpec
from hpcsynapse.trainer import models, optim

SETTINGS: dict[str, Any] = {"model": "dualnet", "model_args": {}, "batch": 16, "epochs": 2, "steps": 10}
DUAL: dict[str, Any] = {**SETTINGS, "strategy": "admm", "engine": "ddp"}


def facts(run: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads((run.dual / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def through_engine(references: Starter) -> RunDirectory:
    return references("dual", 2, dual=DualOptions(), **DUAL).succeed()


def test_two_halves_are_trained_as_the_whole(references: Starter, through_engine: RunDirectory) -> None:
    """One step at both sides: the parameters of plain training, in a checkpoint that any run can load."""
    job = references("whole", **SETTINGS)
    expected, found = parameters(job.succeed()), parameters(through_engine)
    assert list(expected) == list(found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    results = [run.read_history()[-1]["result"] for run in (job.run, through_engine)]
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    whole = models.create("dualnet", {}, (1, 8, 8), 10)
    content = torch.load(sorted(through_engine.checkpoints.glob("step-*.pt"))[-1], weights_only=True)
    whole.load_state_dict(content["model"])
    optim.make_optimizer(TrainSpec(), whole.parameters()).load_state_dict(content["optimizer"])


def test_what_is_told_of_both_halves(through_engine: RunDirectory) -> None:
    first, second = facts(through_engine)
    size = 16 * 16 * 2 * 2 * 4  # batch, channels and 2x2 pixels behind pool2, float32
    assert (first["exchanges"], first["sent_bytes"], first["received_bytes"]) == (10, 10 * size, 10 * size)
    assert (second["exchanges"], second["sent_bytes"], second["received_bytes"]) == (10, 10 * size, 10 * size)
    assert first["parameters"] + second["parameters"] == sum(
        value.numel() for value in parameters(through_engine).values()
    )
    assert set(first["memory"]) == {"batches", "single", "net1", "net2"}
    (row,) = dual_report([through_engine], limit=1 << 20)
    assert (row.exchanges, row.samples, row.strategy, row.verdict) == (10, 160, "admm", "")
    assert row.net1_loss is not None and row.net2_loss is not None and row.net2_batch
    scaling = load(through_engine)
    assert scaling.samples.tolist() == [16] * 10  # both took the same batch: counted once


@pytest.mark.parametrize(("engine", "launcher", "exchange"), [("ddp", "", "files"), ("mpi", "mpirun", "engine")])
def test_every_transport_gives_the_same(
    starter: Starter, through_engine: RunDirectory, engine: str, launcher: str, exchange: str
) -> None:
    need(engine)
    run = starter("other", 2, launcher, dual=DualOptions(exchange=exchange), **{**DUAL, "engine": engine}).succeed()
    expected, found = parameters(through_engine), parameters(run)
    assert all(torch.equal(expected[name], value) for name, value in found.items())
    assert facts(run)[0]["sent_bytes"] == facts(through_engine)[0]["sent_bytes"]
    assert sorted(path.name for path in run.dual.iterdir()) == ["rank-0.json", "rank-1.json"]


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        # An answer that is under way when the run is stopped is not lost.
        (DualOptions(one_batch_late=True, int8_targets=True, exchange="files"), 4 + 16 * 2 * 2),
        # Beta goes on from where it was: the second local step depends on it.
        (DualOptions(method="admm", beta_growth=1.5, beta_step_growth=1.1, net1_steps=2), 4 * 16 * 2 * 2),
    ],
    ids=["late", "growing"],
)
def test_stopped_and_resumed(
    starter: Starter, monkeypatch: pytest.MonkeyPatch, options: DualOptions, answer: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    slow = {
        **DUAL,
        "data": "slow_data:load",
        "data_args": {},
        "model_args": {"shape": [1, 8, 8]},
        "steps": 40,
        "epochs": 10,
        "checkpoint_every": 1000,
    }
    expected = parameters(starter("straight", 2, dual=options, **slow).succeed())
    monkeypatch.setenv("SLOW_DATA_SECONDS", "0.1")
    job = starter("stopped", 2, dual=options, **slow)
    job.until_step(3)
    job.run.request_stop("test")
    run = job.succeed()
    step = job.status()["step"]
    assert job.status()["state"] == "STOPPED" and 3 <= step < 40
    run.stop.unlink()
    monkeypatch.setenv("SLOW_DATA_SECONDS", "0")
    resumed = starter.start(run, 2)
    resumed.succeed()
    assert f"resumed from step {step} " in resumed.output()
    assert all(torch.equal(expected[name], value) for name, value in parameters(run).items())
    first, second = facts(run)
    assert first["exchanges"] == second["exchanges"] == 40
    assert first["received_bytes"] == second["sent_bytes"] == 40 * 16 * answer


@pytest.mark.parametrize("exchange", ["engine", "files"])
def test_a_killed_peer_is_named_within_the_limit(starter: Starter, exchange: str) -> None:
    endless = {**DUAL, "steps": 10**7, "epochs": 10**6, "validate_every": 0, "checkpoint_every": 0}
    job = starter("killed", 2, wait_limit=12.0, dual=DualOptions(exchange=exchange), **endless)
    job.until_step(5)
    os.kill(job.processes[1].pid, signal.SIGKILL)
    assert all(job.wait()), job.output()
    assert "peer lost: rank 1" in job.output()
    assert job.status()["state"] == "FAILED"


def test_a_collapse_is_called_one(starter: Starter) -> None:
    """The source's distance on the set that tells methods apart: within an epoch nothing is left of the activations."""
    settings = {**DUAL, "data": "cluttered-digits", "data_args": {}, "batch": 50, "lr": 0.02, "steps": 40}
    job = starter("collapse", 2, dual=DualOptions(method="distance"), **settings)
    run = job.succeed()
    assert "activations have collapsed" in job.output()
    assert job.status()["remark"].startswith("collapsed: ")
    assert job.status()["metrics"]["accuracy"] < 0.2
    (row,) = dual_report([run])
    assert row.verdict == "collapsed" and row.norm < 0.05 * row.norm_first
