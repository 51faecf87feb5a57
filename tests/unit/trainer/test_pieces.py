"""The smaller pieces: identity, seeds, clock, control, validation, tables."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from hpcsynapse import timing
from hpcsynapse.errors import PlacementError, TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.job.network import interface_towards
from hpcsynapse.runs import records
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.names import ENGINES as SPEC_ENGINES
from hpcsynapse.spec.names import STRATEGIES as SPEC_STRATEGIES
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.trainer import devices, engines, strategies
from hpcsynapse.trainer.clock import StepClock, StepResult
from hpcsynapse.trainer.control import Control
from hpcsynapse.trainer.engines.alone import AloneEngine
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.randomness import StepSeeds

CPU = torch.device("cpu")


def alone() -> AloneEngine:
    return AloneEngine(RankIdentity(), CPU, 10, 10)


def test_identity() -> None:
    assert RankIdentity.from_environ({}) == RankIdentity()
    found = RankIdentity.from_environ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "HPCSYNAPSE_NODES": "2"})
    assert (found.rank, found.world_size, found.local_rank, found.nodes) == (3, 4, 1, 2)
    for wrong in ({"RANK": "x"}, {"RANK": "4", "WORLD_SIZE": "4"}, {"WORLD_SIZE": "-2"}):
        with pytest.raises(PlacementError):
            RankIdentity.from_environ(wrong)


def test_tables_hold_what_a_description_may_name() -> None:
    assert set(engines.ENGINES) == {*SPEC_ENGINES, "none"} - {"auto"}
    assert set(strategies.STRATEGIES) == set(SPEC_STRATEGIES) - {"auto"}


def test_missing_engine_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "horovod", None)
    monkeypatch.setitem(sys.modules, "horovod.torch", None)
    monkeypatch.delitem(sys.modules, "hpcsynapse.trainer.engines.horovod", raising=False)
    with pytest.raises(TrainError, match=r"hpcsynapse\[horovod\]"):
        engines.create("horovod", RankIdentity(), CPU, 1, 1)


def test_wrong_worlds() -> None:
    engine = AloneEngine(RankIdentity(rank=0, world_size=4), CPU, 1, 1)
    with pytest.raises(TrainError, match="a world of one where 4 ranks were asked for"):
        engine.start()
    with pytest.raises(TrainError, match="--strategy allreduce"):
        strategies.strategy_class("single")(engine, JobSpec(), engine.identity)


def test_steps_draw_the_same_whenever_they_run() -> None:
    def draw(seed: int, rank: int, step: int) -> tuple[float, ...]:
        StepSeeds(seed, rank, CPU).apply(step)
        return float(torch.rand(())), float(np.random.rand()), random.random()

    first = draw(0, 0, 5)
    draw(0, 0, 6)
    assert draw(0, 0, 5) == first
    assert len({draw(0, 0, 5), draw(0, 0, 6), draw(0, 1, 5), draw(1, 0, 5)}) == 4


def test_clock_writes_phases(tmp_path) -> None:
    recorder = timing.StepRecorder(tmp_path, rank=0)
    clock = StepClock(recorder)
    clock.begin()
    clock.mark("forward")
    launched = clock.stamp()
    clock.mark("backward", launched)
    clock.mark("communicate")
    clock.end(7, 2, StepResult(torch.tensor(1.5), 32))
    clock.drain()
    ((_, record),) = list(records.iterate(tmp_path))
    named = dict(zip([name for name, _, _ in timing.FIELDS], record, strict=True))
    assert (named["step"], named["epoch"], named["samples"], named["loss"]) == (7, 2, 32, 1.5)
    assert sum(named[phase] for phase in timing.PHASES) <= named["total"] * 1.001
    recorder.close()


class StubReporter:
    stop_requested = False


def test_control_points_are_rare_when_steps_are_fast() -> None:
    control, points = Control(alone(), StubReporter()), 0
    for _ in range(5000):
        left = control._points._left
        assert not control.stop_after_step()
        points += left == 1
    assert points < 20
    StubReporter.stop_requested = True
    try:
        stopped = [control.stop_after_step() for _ in range(1000)]
        assert any(stopped)
        assert control.reason == "stop requested"
    finally:
        StubReporter.stop_requested = False


def test_users_loss_and_metrics() -> None:
    class Mine(torch.nn.Linear):
        def loss(self, output, target):
            return (output - target).abs().mean()

        def metrics(self, output, target):
            return {"bias": (output - target).mean()}

    objective = Objective(Mine(1, 1))
    assert float(objective.loss(torch.tensor([[1.0]]), torch.tensor([[3.0]]))) == 2
    assert objective.metrics(torch.tensor([[1.0]]), torch.tensor([[3.0]])) == {"bias": -2.0}
    plain = Objective(torch.nn.Linear(1, 1))
    assert float(plain.loss(torch.tensor([[1.0]]), torch.tensor([[3.0]]))) == 4
    assert plain.metrics(torch.tensor([[1.0]]), torch.tensor([[3.0]])) == {}


def test_interface_of_this_host_is_not_guessed() -> None:
    assert interface_towards("127.0.0.1") is None
    assert interface_towards("no.such.host.invalid") is None


def test_watchdog_ends_a_process_and_says_where_it_waits() -> None:
    code = """
import time
from hpcsynapse.trainer.watchdog import Watchdog
watchdog = Watchdog(5, "starting", lambda reason: print("told", reason, flush=True))
watchdog.start()
watchdog.expect("waiting for peers", 0.3)
def stuck():
    time.sleep(60)
stuck()
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True)
    assert ended.returncode == 75
    assert "no progress for 0.3 s while waiting for peers" in ended.stderr
    assert "in stuck" in ended.stderr
    assert "told no progress" in ended.stdout


def test_throughput_is_never_shown_as_nothing(tmp_path, monkeypatch) -> None:
    """The window of the throughput begins anew after a validation; until a step was made there is nothing to show."""
    from hpcsynapse.files import read_json
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.spec.job import JobSpec
    from hpcsynapse.trainer import reporter as module

    monkeypatch.setattr(module, "_INTERVAL", 0.01)
    run = RunDirectory.create(tmp_path, JobSpec(name="r"))
    reporter = module.Reporter(run, active=True)
    reporter.start()
    reporter.global_batch, reporter.steps, reporter.step = 4, 100, 10
    reporter.state("EVALUATING")
    reporter.state("TRAINING")
    time.sleep(0.2)
    assert "samples_per_s" not in (read_json(run.status) or {})
    reporter.step = 20
    end = time.monotonic() + 20
    while "samples_per_s" not in (read_json(run.status) or {}):
        assert time.monotonic() < end
        time.sleep(0.01)
    reporter.close()
    status = read_json(run.status)
    assert status is not None and status["samples_per_s"] > 0 and status["eta_s"] > 0


def test_gpus_that_are_not_found_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An allocation of GPUs is not spent on the CPU unless somebody says so."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    spec = JobSpec(resources=ResourceRequest(gpus=2))
    with pytest.raises(TrainError, match=r"2 GPUs on each node asked for, .* say --device cpu"):
        devices.choose(spec, RankIdentity())
    assert devices.choose(spec.with_("train", device="cpu"), RankIdentity()) == CPU
    assert devices.choose(JobSpec(), RankIdentity()) == CPU
