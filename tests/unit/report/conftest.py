"""Synthetic runs, written as their ranks would have written them."""

import json
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.timing import StepRecorder

FACTS = {
    "strategy": "allreduce",
    "engine": "ddp",
    "model": "m",
    "data": "d",
    "optimizer": "sgd",
    "device_name": "gpu",
    "threads": 1,
}


def write_rank(folder, rank, ranks, times, *, batch=32, epoch_steps=10**6, warmup=0, attempt="0", first=0, gap=0.0,
               start=1000.0, nodes=1, host=None, waits=None, between=0.0, **facts):  # fmt: skip  # a long call
    """Write one rank's records; `times` are the totals of its steps (s), `gap` the validation between epochs (s).

    `waits` is how long of it the rank waited for the others, `between` what passes before every step unmarked (s).
    """
    environ = {"WORLD_SIZE": str(ranks), "HPCSYNAPSE_ATTEMPT": attempt, "HPCSYNAPSE_NODES": str(nodes)}
    about = {**FACTS, **facts, "started": start, **({"host": host} if host else {})}
    with mock.patch.dict(os.environ, environ, clear=True):
        recorder = StepRecorder(folder, rank=rank, warmup=warmup, **about)
    with recorder:
        now = start
        for index, total in enumerate(times):
            step = first + index
            if gap and index and step % epoch_steps == 0:
                recorder.write_pause("validation", now, gap)
                now += gap
            now += between
            wait = 0.0 if waits is None else float(waits[index])
            recorder.write(step, step // epoch_steps, now, 0, 0, 0, wait, 0, float(total), batch, 0.5)
            now += float(total)
    return recorder.path


def write_run(folder, ranks, step_time, *, steps=200, noise=0.0, seed=0, **options):
    """Write a run whose step time is `step_time` (a number, or one for every step); returns its folder as text."""
    rng = np.random.default_rng(seed)
    slowest = np.broadcast_to(np.asarray(step_time, float), (steps,)) * (1 + noise * rng.standard_normal(steps))
    late = rng.integers(0, ranks, steps)
    for rank in range(ranks):
        waits = np.where(late == rank, 0.0, 0.2 * slowest)
        write_rank(Path(folder), rank, ranks, slowest, waits=waits, **options)
    return str(folder)


@pytest.fixture
def rank_writer():
    """Return `write_rank`."""
    return write_rank


@pytest.fixture
def run_writer():
    """Return `write_run`."""
    return write_run


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes a bare folder of records and returns its path."""

    def make(name, ranks, step_time, **options):
        return Path(write_run(tmp_path / name, ranks, step_time, **options))

    return make


@pytest.fixture
def make_directory(tmp_path):
    """Return a function that writes a whole run directory below tmp_path/runs."""

    def make(name, ranks, step_time, *, status=None, **options):
        spec = JobSpec(name=name, resources=ResourceRequest(ranks_per_node=ranks))
        run = RunDirectory.create(tmp_path / "runs", spec)
        write_run(run.timings, ranks, step_time, **options)
        if status:
            run.status.write_text(json.dumps(status))
        return run

    return make
