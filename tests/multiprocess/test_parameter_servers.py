"""Parameter servers and workers as processes of their own, some of which are killed at any instant and come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from forge import Forge
from jobs import HERE, Starter, parameters
from served_jobs import Served, ServedStarter

from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.secret import ensure_secret
from hpcsynapse.trainer import models
from hpcsynapse.trainer.parameter_server.layout import FlatModel

GLOBAL_BATCH = 16
PARAMETERS = 53_002  # simple-cnn on 8x8 images
STEPS = 12
EXACT: dict[str, Any] = {
    "steps": STEPS,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "warmup_steps": 3,
    "checkpoint_every": 100,
}
# The same samples, at a pace that lets a test act between steps.
SLOW: dict[str, Any] = {"data": "slow_data:load", "data_args": {}, "model_args": {"dropout": 0.0, "shape": [1, 8, 8]}}
DIGITS: dict[str, Any] = {
    "data": "digits",
    "data_args": {"size": 8},
    "batch": 16,
    "epochs": 6,
    "validate_every": 100,
    "lr": 0.02,
    "checkpoint_every": 100,
}
SAVED_OFTEN = {"server_save_seconds": 0.1}


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    made = Forge()
    yield made
    made.close()


@pytest.fixture
def served(starter: Starter, forge: Forge) -> ServedStarter:
    return ServedStarter(starter, forge)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, forge: Forge) -> RunDirectory:
    """One rank with the global batch."""
    run = Starter(tmp_path_factory.mktemp("single")).create("single", batch=GLOBAL_BATCH, **EXACT)
    code = forge.start([str(run.path)], dict(os.environ), run.path / "log").wait(300)
    assert code == 0, (run.path / "log").read_text()
    return run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, forge: Forge) -> float:
    """The accuracy of two asynchronous workers on real digits, whom nobody disturbs."""
    starter = Starter(tmp_path_factory.mktemp("undisturbed"))
    run = ServedStarter(starter, forge)("ps-async", 2, **DIGITS)
    try:
        run.start_all().succeed()
    finally:
        run.end()
    assert run.accuracy() > 0.9
    return run.accuracy()


def slowly(run: Served, seconds: float = 0.04) -> Served:
    run.environment["SLOW_DATA_SECONDS"] = str(seconds)
    return run


def equal(run: Served, single: RunDirectory) -> None:
    """The checkpoint of the chief and what the servers hold are the parameters of one rank."""
    expected, found = parameters(single), parameters(run.run)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)
    flat = torch.cat([value.reshape(-1) for value in found.values()])
    assert torch.equal(run.held(), flat)


def close_to(run: Served, undisturbed: float) -> None:
    assert abs(run.accuracy() - undisturbed) < 0.05, run.accuracy()


@pytest.mark.parametrize(("workers", "servers"), [(2, 1), (2, 2), (4, 1), (4, 3)])
def test_all_of_n_is_one_rank_with_the_whole_batch(
    served: ServedStarter, single: RunDirectory, workers: int, servers: int
) -> None:
    run = served("ps-sync", workers, servers, batch=GLOBAL_BATCH // workers, **EXACT).start_all()
    run.succeed()
    equal(run, single)
    assert run.counts()["applied"] == [STEPS] * workers
    records = run.records()
    assert len(records) == workers * STEPS
    assert {record["staleness"] for record in records} == {0}
    updates = run.records("ps")
    assert sorted(record["step"] for record in updates) == sorted(list(range(1, STEPS + 1)) * servers)
    assert {record["samples"] for record in updates} == {GLOBAL_BATCH}


def test_workers_that_accumulate_push_once_a_step(served: ServedStarter, single: RunDirectory) -> None:
    run = served("ps-sync", 2, batch=GLOBAL_BATCH // 4, accumulate=2, **EXACT).start_all()
    run.succeed()
    equal(run, single)
    assert run.counts()["applied"] == [STEPS] * 2
    assert {record["samples"] for record in run.records("ps")} == {GLOBAL_BATCH}


def test_n_equal_workers_are_n_minus_one_updates_stale(served: ServedStarter) -> None:
    workers = 3
    run = slowly(served("ps-async", workers, batch=4, epochs=8, **SLOW), 0.015).start_all()
    run.succeed()
    by_worker = [[one for one in run.records() if one["rank"] == rank] for rank in range(workers)]
    begin = max(mine[1]["start"] for mine in by_worker)
    end = min(mine[-1]["start"] for mine in by_worker)
    seen = [one["staleness"] for mine in by_worker for one in mine if begin < one["start"] < end]
    assert len(seen) > 50, "all worked at the same time for a while"
    assert abs(sum(seen) / len(seen) - (workers - 1)) < 0.2 * (workers - 1)
    # What the kernel counted, at both ends and in both directions; the newest 0.1 s are missing.
    moved = workers * len(by_worker[0]) * PARAMETERS * 4
    for role in ("worker", "ps"):
        for direction in ("sent", "received"):
            assert 0.7 * moved < sum(record[direction] for record in run.records(role)) < 1.2 * moved


def test_a_killed_worker_disturbs_nobody_and_joins_again(served: ServedStarter, undisturbed: float) -> None:
    run = served("ps-async", 2, 2, ps=SAVED_OFTEN, **{**DIGITS, "epochs": 12}).start_all()
    for reached in (3, 60):
        run.until_true(lambda reached=reached: run.run.server_counts(0).exists() and run.counts()["steps"][1] > reached)
        run.kill("worker1")
        made = run.counts()["steps"][1]
        run.start("worker1")
        run.until("worker1", "goes on from step", times=1 if reached == 3 else 2)
        resumed = int(run.output("worker1").rpartition("goes on from step ")[2].split()[0])
        assert resumed >= made > reached
    run.succeed()
    assert "WARNING" not in run.output("worker0")
    close_to(run, undisturbed)
    assert run.counts()["steps"] == [12 * (1437 // 32)] * 2


def test_another_worker_takes_over_from_a_chief_that_is_lost(served: ServedStarter, undisturbed: float) -> None:
    run = served("ps-async", 2, ps={**SAVED_OFTEN, "rejoin_limit": 1.5}, **DIGITS).start_all()
    run.until_true(lambda: run.run.server_counts(0).exists() and run.counts()["steps"][0] > 3)
    run.kill("worker0")
    run.succeed("ps0", "worker1")
    assert run.status()["state"] == "FINISHED"
    assert abs(run.accuracy() - undisturbed) < 0.08, "half of the samples were seen less often"
    flat = torch.cat([value.reshape(-1) for value in parameters(run.run).values()])
    assert torch.equal(run.held(), flat)


def test_a_worker_that_comes_back_after_the_end_ends_well(served: ServedStarter) -> None:
    run = served("ps-async", 2, ps={**SAVED_OFTEN, "rejoin_limit": 1.0}, **{**DIGITS, "epochs": 12})
    run.environment["HPCSYNAPSE_ATTEMPT"] = "71.0"  # of a job: started by hand, nobody knows which start is meant
    run.start_all().until_true(lambda: run.run.server_counts(0).exists() and run.counts()["steps"][1] > 3)
    run.kill("worker1")
    run.succeed("ps0", "worker0")
    run.start("worker1").succeed("worker1")
    assert "nothing is left to do" in run.output("worker1")
    assert run.status()["state"] == "FINISHED"


@pytest.mark.parametrize("strategy", ["ps-async", "ps-sync"])
def test_a_worker_killed_in_the_middle_of_a_push(served: ServedStarter, undisturbed: float, strategy: str) -> None:
    run = served(strategy, 2, ps={"rejoin_limit": 1.0, "needed": 1}, **DIGITS)
    model = models.create("simple-cnn", {}, (1, 8, 8), 10)
    digest = FlatModel(model, run.run.load_spec().train).digest
    run.start("ps0", "worker0")
    run.until("ps0", "parameters given by worker 0")
    command = [
        sys.executable,
        str(HERE / "half_push.py"),
        run.servers[0],
        ensure_secret(run.run).hex(),
        digest.hex(),
        str(PARAMETERS),
        "1",
        "2",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as dying:
        assert dying.stdout is not None and dying.stdout.readline() == b"half is sent\n"
        dying.send_signal(signal.SIGKILL)
    run.succeed()
    assert run.counts()["interrupted"] == [0, 1]
    assert run.counts()["applied"] == [6 * (1437 // 32), 0]
    assert abs(run.accuracy() - undisturbed) < 0.08, "half of the samples were never seen"


def test_a_worker_killed_and_restarted_changes_nothing_where_all_are_needed(
    served: ServedStarter, single: RunDirectory
) -> None:
    run = slowly(served("ps-sync", 2, 2, batch=8, ps=SAVED_OFTEN, **{**EXACT, **SLOW})).start_all()
    run.until_true(lambda: run.run.server_counts(0).exists() and run.counts()["steps"][1] > 2)
    run.kill("worker1")
    run.start("worker1")
    run.succeed()
    assert "goes on from step" in run.output("worker1")
    equal(run, single)


def test_too_few_workers_end_the_run_within_the_limit(served: ServedStarter) -> None:
    run = slowly(
        served("ps-sync", 3, 2, batch=8, ps={"needed": 2, "rejoin_limit": 1.0}, epochs=1000, **SLOW)
    ).start_all()
    for name in ("ps0", "ps1"):
        run.until(name, "is here", times=3)
    run.kill("worker1")
    time.sleep(0.5)
    assert run.processes["worker0"].poll() is None, "two are enough"
    run.kill("worker2")
    assert run.wait("ps0", "ps1", "worker0", limit=30) == [1, 1, 1]
    for name in ("ps0", "ps1", "worker0"):
        assert "workers 1, 2 were lost (or never came) and did not return within 1 s" in run.output(name)
    assert "workers 1, 2 were lost" in run.run.read_history()[-1]["reason"]


def test_a_backup_worker_that_is_late(served: ServedStarter) -> None:
    """Stopped in its tracks; the others go on without it, and it goes on with them."""
    steps = 60
    run = slowly(served("ps-sync", 3, batch=4, steps=steps, ps={**SAVED_OFTEN, "needed": 2}, **SLOW), 0.03).start_all()
    run.until_true(lambda: run.run.server_counts(0).exists() and min(run.counts()["steps"]) > 3)
    os.kill(run.processes["worker2"].pid, signal.SIGSTOP)
    before = run.counts()["steps"][0]
    run.until_true(lambda: run.counts()["steps"][0] > before + 10)
    os.kill(run.processes["worker2"].pid, signal.SIGCONT)
    run.succeed()
    counts = run.counts()
    assert sum(counts["applied"]) == 2 * steps, "every update took two gradients"
    assert counts["dropped"][2] > 0 and counts["steps"] == [steps] * 3
    late = [record["step"] for record in run.records() if record["rank"] == 2]
    assert len(late) < steps - 8 and late == sorted(late), "it left out what the others did meanwhile"


@pytest.mark.parametrize("strategy", ["ps-async", "ps-sync"])
def test_a_killed_server_is_found_again(served: ServedStarter, undisturbed: float, strategy: str) -> None:
    run = served(strategy, 2, 2, ps=SAVED_OFTEN, **{**DIGITS, "epochs": 12}).start_all()
    run.until_true(lambda: run.run.server_counts(0).exists() and min(run.counts()["steps"]) > 3)
    run.until_true(lambda: run.run.server_state(1).exists())
    for name in ("ps1", "ps0"):
        run.kill(name)
        run.start(name)
        run.until("worker0", f"parameter server {run.servers[int(name[2])]} is back")
        assert "took up the state after update" in run.output(name)
    run.succeed()
    close_to(run, undisturbed)


def test_a_node_that_loses_a_rank_ends_alone_and_joins_again(served: ServedStarter, undisturbed: float) -> None:
    run = served("mixed", 4, hosts=2, ps=SAVED_OFTEN, **{**DIGITS, "epochs": 24}).start_all()
    run.until_true(lambda: run.run.server_counts(0).exists() and run.counts()["steps"][1] > 3)
    run.kill("worker3")
    assert run.wait("worker2") == [1], "the rest of its node"
    assert all(run.processes[name].poll() is None for name in ("worker0", "worker1"))
    run.start("worker2", "worker3")
    run.succeed()
    for name in ("worker2", "worker3"):
        assert "goes on from step" in run.output(name)
    close_to(run, undisturbed)
    steps = 24 * (1437 // 64)
    assert run.counts()["steps"] == [steps] * 2, "one push a node"
    assert {record["samples"] for record in run.records("ps")} == {32}


@pytest.mark.parametrize("how", ["file", "SIGTERM"])
def test_stopped_and_resumed_is_never_stopped(served: ServedStarter, single: RunDirectory, how: str) -> None:
    run = slowly(served("ps-sync", 2, 2, batch=8, ps=SAVED_OFTEN, **{**EXACT, **SLOW}), 0.3).start_all()
    run.until_true(lambda: run.run.server_counts(0).exists() and run.counts()["steps"][0] > 2)
    if how == "file":
        run.run.request_stop("test")
    else:  # as a queue does it, to all
        for process in run.processes.values():
            process.kill(signal.SIGTERM)
    run.succeed()
    assert run.status()["state"] == "STOPPED"
    assert run.counts()["steps"][0] < STEPS
    run.run.stop.unlink(missing_ok=True)
    slowly(run, 0.0).start_all().succeed()
    assert run.status()["state"] == "FINISHED"
    equal(run, single)


def test_a_server_without_workers_and_a_worker_without_servers_say_so(served: ServedStarter) -> None:
    run = served("ps-async", 1, start_limit=3.0).start("ps0")
    address, run.servers[0] = run.servers[0], "127.0.0.9:9"
    run.start("worker0")
    assert run.wait("ps0", "worker0", limit=30) == [1, 1]
    assert f"no worker came to {address} within 3 s" in run.output("ps0")
    assert "no parameter server at 127.0.0.9:9 within" in run.output("worker0")
    assert run.status()["state"] == "FAILED"
