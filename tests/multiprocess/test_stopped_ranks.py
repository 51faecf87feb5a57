"""A rank that hangs because it is stopped: the run ends within the limits, and names it and not who waits for it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from jobs import LIMIT, SMALL

import hpcsynapse
from hpcsynapse.errors import CommandError
from hpcsynapse.files import read_json
from hpcsynapse.job.supervise import descendants, is_tool
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.submission.cancel import request_cancel
from hpcsynapse.submission.status import RunStatus, statuses

FOREVER = {"steps": 10**7, "batch": 8, "validate_every": 0, "checkpoint_every": 0}
ENDED = ("FINISHED", "FAILED", "LOST", "STOPPED")


def wait(run: RunDirectory, what: str) -> RunStatus:
    end = time.monotonic() + LIMIT
    while True:
        (status,) = statuses([run])
        steps = status.progress.get("step") or 0
        if status.state in ENDED or (what == "steps" and steps > 5):
            return status
        assert time.monotonic() < end, status
        time.sleep(0.1)


@pytest.mark.parametrize("victim", [0, 1])
def test_the_stopped_rank_is_named(workdir: Path, victim: int) -> None:
    spec = JobSpec(
        name="hangs",
        resources=ResourceRequest(ranks_per_node=2, time="10m"),
        queue=QueueOptions(scheduler="local"),
        launch=LaunchOptions(launcher="local", wait_limit=6),
        train=TrainSpec(**{**SMALL, **FOREVER, "engine": "ddp"}),  # type: ignore[arg-type]
    )
    run = hpcsynapse.submit(spec, workdir / "runs").run
    try:
        assert wait(run, "steps").state == "TRAINING"
        ranks = {item["rank"]: item["pid"] for item in (read_json(run.placement) or {})["ranks"]}
        below = descendants(ranks[victim])[1:]  # the node's sampler is another child of the first wrapper
        program = next(pid for pid in below if not is_tool(pid, "sampler"))
        os.kill(program, signal.SIGSTOP)
        status = wait(run, "end")
    finally:
        with suppress(CommandError):  # it has ended, as it should
            request_cancel(run)
    assert status.state == "FAILED" and f"rank {victim} on " in status.reason, status
    assert "stopped by a signal (SIGSTOP)" in status.reason
