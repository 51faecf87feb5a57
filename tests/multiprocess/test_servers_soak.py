"""Runs with parameter servers whose workers are killed again and again, and one server once: seeded, and counted."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from forge import Forge
from jobs import Starter
from served_jobs import Served, ServedStarter

SECONDS = 3.0
WORKERS, STEPS = 3, 120
PACE = {"data": "slow_data:load", "data_args": {}, "model_args": {"dropout": 0.0, "shape": [1, 8, 8]}}


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    made = Forge()
    yield made
    made.close()


def disturb(run: Served, seed: int, seconds: float) -> Counter[str]:
    """Kill workers at random, and server 1 in between, and start them again; return who was killed how often."""
    numbers, killed, begun = random.Random(seed), Counter[str](), time.monotonic()
    while time.monotonic() < begun + seconds:
        time.sleep(numbers.uniform(0.05, 0.4))
        late = time.monotonic() > begun + seconds / 2
        name = "ps1" if late and not killed["ps1"] else f"worker{numbers.randrange(WORKERS)}"
        run.processes[name].kill()
        if run.processes[name].wait(30) != -signal.SIGKILL:
            break  # it was done
        killed[name] += 1
        time.sleep(numbers.choice((0.0, 0.0, 0.1)))
        run.start(name)
    return killed


@pytest.mark.parametrize(("strategy", "ps"), [("ps-async", {}), ("ps-sync", {"needed": 2})])
def test_whoever_is_killed_the_run_ends_well_and_counts_add_up(
    starter: Starter, forge: Forge, strategy: str, ps: dict[str, Any]
) -> None:
    seed, seconds = int(os.environ.get("SOAK_SEED", "1")), float(os.environ.get("SOAK_SECONDS", SECONDS))
    steps = int(STEPS * seconds / SECONDS)
    settings = {**PACE, "batch": 4, "steps": steps, "checkpoint_every": 1}
    run = ServedStarter(starter, forge)(strategy, WORKERS, 2, ps={"server_save_seconds": 0.1, **ps}, **settings)
    run.environment["SLOW_DATA_SECONDS"] = "0.02"
    run.start_all()
    run.until_true(lambda: all(run.run.server_counts(number).exists() for number in (0, 1)))
    killed = disturb(run, seed, seconds)
    assert killed["ps1"] == 1 and sum(killed.values()) > 3, killed
    run.succeed()
    assert run.status()["state"] == "FINISHED"
    whole = json.loads(run.run.server_counts(0).read_text())
    counts = run.counts()
    if strategy == "ps-sync":  # a worker that comes back when all steps are made has nothing to do
        assert max(counts["steps"]) == steps
        assert whole["updates"] == steps and sum(counts["applied"]) == 2 * steps
    else:
        assert counts["steps"] == [steps] * WORKERS
        assert whole["updates"] == sum(counts["applied"]) + sum(counts["interrupted"])
        for worker, applied in enumerate(counts["applied"]):
            assert steps <= applied <= steps + killed[f"worker{worker}"]
    updates = [record["step"] for record in run.records("ps") if record["rank"] == 0]
    assert len(updates) == len(set(updates)) == (steps if strategy == "ps-sync" else sum(counts["applied"]))
    assert {record["rank"] for record in run.records()} == set(range(WORKERS))
    assert not [*run.run.checkpoints.glob(".server-*"), *run.run.path.glob(".secret.*")]
