"""Curves and records that a known cost model made."""

import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from hpcsynapse.predict import cost
from hpcsynapse.predict.curve import Curve, Observation
from hpcsynapse.predict.model import exposed
from hpcsynapse.predict.samples import RunSamples
from hpcsynapse.timing import StepRecorder

ALPHA, BETA, COMPUTE, JITTER = 0.0005, 0.04, 0.1, 0.03
STRATEGY = {"ring": "allreduce", "queue": "ps-async", "servers": "ps-sync"}
FACTS = {
    "engine": "mpi",
    "model": "m",
    "data": "d",
    "optimizer": "sgd",
    "threads": 1,
    "communicate": "complete",
    "steps_per_epoch": 100,
    "gradient_bytes": 4_800_000,
    "started": 1000.0,
}


def exchange(kind, ranks, *, alpha=ALPHA, beta=BETA, compute=COMPUTE, servers=1):
    """Return what an exchange takes, as the cost model has it."""
    ranks = np.asarray(ranks, float)
    busy, _ = cost.transfer(kind, ranks, np.full_like(ranks, beta), np.full_like(ranks, compute), servers)
    return alpha * cost.rounds(kind, ranks) + busy


def make_curve(
    ranks,
    *,
    kind="ring",
    noise=0.0,
    seed=0,
    records=True,
    hidden=0.0,
    scaling="weak",
    strategy=None,
    servers=1,
    per_node=1,
    **costs,
):
    """Return a curve as it would be measured; `noise` is the relative error of every point."""
    rng, observations = np.random.default_rng(seed), []
    for count in ranks:
        compute = COMPUTE if scaling == "weak" else COMPUTE / count
        whole = float(exchange(kind, [count], compute=compute, servers=servers, **costs)[0])
        seen = float(exposed(np.float64(whole), np.float64(hidden * compute))) if hidden else whole
        level, time = (value * np.exp(noise * rng.standard_normal()) for value in (compute, compute + seen))
        sample = RunSamples(
            level=level,
            relative=np.ones(200),
            excess=(0.0, 0.0),
            communicate=max(0.0, time - level),
            backward=hidden * level * 14 / 13,
            overlaps=hidden > 0,
            phases_known=whole > 0,
            gradient_bytes=4.8e6,
        )
        observations.append(
            Observation(
                ranks=count,
                nodes=-(-count // per_node),
                batch=32.0 if scaling == "weak" else 256 / count,
                time=time,
                error=noise,
                samples=(sample,) if records else (),
            )
        )
    first = observations[0]
    return Curve(
        strategy=strategy or STRATEGY.get(kind, "allreduce"),
        engine="mpi",
        model="m",
        data="d",
        scaling=scaling,
        baseline_strategy="allreduce",
        baseline_ranks=first.ranks,
        base_time=first.time,
        base_throughput=first.ranks * first.batch / first.time,
        base_epoch_s=None,
        epoch_samples=32_000.0,
        seconds=True,
        batches_known=True,
        nodes_known=True,
        observations=tuple(observations),
        collective=kind,
        servers=servers,
    )


def write_run(
    folder,
    ranks,
    *,
    nodes=None,
    steps=200,
    batch=32,
    seed=0,
    compute=COMPUTE,
    strategy="allreduce",
    alpha=ALPHA,
    beta=BETA,
    phases=True,
    hole=False,
    between=0.0,
    pause=0.0,
    **facts,
):
    """Write the records of a run that computes and exchanges around a ring, both with 3 % noise; returns its folder."""
    rng = np.random.default_rng(seed + ranks)
    own = compute * np.exp(JITTER * rng.standard_normal((ranks, steps)))
    exchanges = exchange("ring", [ranks], alpha=alpha, beta=beta)[0] * np.exp(JITTER * rng.standard_normal(steps))
    totals = own.max(axis=0) + exchanges
    environ = {"WORLD_SIZE": str(ranks), "HPCSYNAPSE_NODES": str(nodes or ranks)}
    for rank in range(ranks):
        with mock.patch.dict(os.environ, environ, clear=True):
            recorder = StepRecorder(folder, rank=rank, warmup=0, strategy=strategy, **{**FACTS, **facts})
        with recorder:
            now = 1000.0
            for step, (mine, total) in enumerate(zip(own[rank], totals, strict=True)):
                waits = total - mine if phases else 0.0
                waits = np.nan if hole and step % 7 == 0 else waits
                late = pause if pause and step % 50 == 25 else 0.0
                if late and rank == 0:
                    recorder.write_pause("validation", now, late)
                    now += late
                elif late:
                    waits, total = waits + late, total + late
                recorder.write(step, 0, now, 0, mine / 3, 2 * mine / 3, waits, 0, total, batch, 0.5)
                now += total + between
    return Path(folder)


@pytest.fixture
def curve():
    """Return `make_curve`."""
    return make_curve


@pytest.fixture
def exchanged():
    """Return `exchange`."""
    return exchange


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes a folder of records and returns its path."""
    return lambda name, ranks, **options: write_run(tmp_path / name, ranks, **options)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Four runs of 1, 2, 4 and 8 nodes of one rank."""
    place = tmp_path_factory.mktemp("measured")
    return [write_run(place / f"r{ranks}", ranks, steps_per_epoch=800 // ranks) for ranks in (1, 2, 4, 8)]
