"""The built-in trainer as `submit` starts it on this machine: job script, launcher, wrapper, ranks."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest
from jobs import LIMIT, SMALL, missing, need

import hpcsynapse
from hpcsynapse.files import read_json
from hpcsynapse.report.loading import each_rank
from hpcsynapse.report.trace.merged import read_trace
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.submission.status import statuses


def train(runs: Path, launcher: str, engine: str, ranks: int = 2, **settings: object) -> RunDirectory:
    """Submit a small training and return its run once it has ended well."""
    spec = JobSpec(
        name=launcher,
        resources=ResourceRequest(ranks_per_node=ranks, time="5m"),
        queue=QueueOptions(scheduler="local"),
        launch=LaunchOptions(launcher=launcher),
        train=TrainSpec(**{**SMALL, "engine": engine, "batch": 8, "steps": 6, **settings}),  # type: ignore[arg-type]
    )
    run = hpcsynapse.submit(spec, runs).run
    end = time.monotonic() + LIMIT
    while (status := statuses([run])[0]).state not in ("FINISHED", "FAILED", "LOST", "STOPPED"):
        assert time.monotonic() < end, status
        time.sleep(0.1)
    assert status.state == "FINISHED", (status, (run.logs / "job.log").read_text())
    return run


@pytest.mark.parametrize(("launcher", "engine"), [("torchrun", "ddp"), ("local", "ddp"), ("horovodrun", "horovod")])
def test_every_launcher_trains(workdir: Path, launcher: str, engine: str) -> None:
    need(engine)
    run = train(workdir / "runs", launcher, engine)
    placement = read_json(run.placement)
    assert placement is not None and placement["verified"]
    assert [rank["rank"] for rank in placement["ranks"]] == [0, 1]
    status = read_json(run.status)
    assert status is not None and (status["engine"], status["step"], status["state"]) == (engine, 6, "FINISHED")
    assert (run.checkpoints / "step-000000006.pt").is_file()


def test_scalars_for_tensorboard(workdir: Path) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        missing("tensorboard is not installed")
    run = train(workdir / "runs", "local", "ddp", ranks=1, tensorboard=True)
    events = list(run.tensorboard.glob("events.out.tfevents.*"))
    assert len(events) == 1
    content = events[0].read_bytes()
    assert b"validation/loss" in content and b"validation/accuracy" in content


def test_chosen_steps_of_chosen_ranks_are_traced(workdir: Path) -> None:
    run = train(workdir / "runs", "local", "ddp", profile_steps="2-3", profile_ranks="1")
    (path,) = run.profiles.iterdir()
    (begin, end) = (
        (records["start"][records["step"] == step][0], records["total"][records["step"] == step][0])
        for step in (2, 3)
        for header, records in each_rank(run)
        if header["rank"] == 1
    )
    _, rank, lanes = read_trace(path, begin[0])
    calls = [one for lane in lanes for one in lane.slices if one[2].startswith("aten::")]
    assert rank == 1 and calls
    assert all(first >= 0 and last <= (end[0] + end[1] - begin[0] + 1) * 1e9 for first, last, _ in calls)


ASKS = """
import time
from pathlib import Path
import torch
import hpcsynapse

torch.distributed.init_process_group("gloo")
steps, end = 0, time.monotonic() + 900
while time.monotonic() < end and not hpcsynapse.should_stop():
    steps += 1
    Path("begun").touch()
    time.sleep(0.01)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
print("steps", steps)
"""


def test_a_script_that_asks_is_stopped_and_not_finished(workdir: Path) -> None:
    (workdir / "train.py").write_text(ASKS)
    spec = JobSpec(
        name="asks",
        resources=ResourceRequest(ranks_per_node=2, time="5m"),
        queue=QueueOptions(scheduler="local"),
        command=(sys.executable, "train.py"),
    )
    run = hpcsynapse.submit(spec, workdir / "runs").run
    end = time.monotonic() + 3 * LIMIT
    while not (workdir / "begun").exists():
        assert time.monotonic() < end, statuses([run])[0]
        time.sleep(0.1)
    run.request_stop("stop requested by me")
    while (status := statuses([run])[0]).state not in ("FINISHED", "FAILED", "LOST", "STOPPED"):
        assert time.monotonic() < end, status
        time.sleep(0.1)
    logs = [run.rank_log(rank).read_text() for rank in range(2)]
    assert (status.state, status.reason) == ("STOPPED", "stop requested by me"), logs
    made = {line for text in logs for line in text.splitlines() if line.startswith("steps ")}
    assert len(made) == 1
