"""Runs that are really killed: what their report says was lost is what their records show."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from jobs import SMALL

import hpcsynapse
from hpcsynapse.cli.main import cli
from hpcsynapse.files import read_json
from hpcsynapse.job.supervise import is_tool
from hpcsynapse.report.loading import DTYPE
from hpcsynapse.report.lost_work import PARTS, LostWork, lost_work
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.records import last_record, parts
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.submit import resubmit
from hpcsynapse.timing import PAUSE

LIMIT = 240.0


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "nothing has come of it"
        time.sleep(0.1)


def program_of(run: RunDirectory, rank: int) -> int:
    """The process that trains as a rank of the newest start, below its wrapper."""
    newest = max(run.evidence("").iterdir(), key=lambda path: path.stat().st_mtime)
    wrapper = (read_json(newest / f"rank-{rank:05d}.json") or {})["pid"]
    below = map(int, Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text().split())
    return next(pid for pid in below if not is_tool(pid, "sampler"))


def made_twice(run: RunDirectory) -> list[int]:
    """How many steps of each start but the last were made again, by the records of rank 0 alone."""
    starts = {}
    for part in parts(run.timings):
        if part.header["rank"] == 0:
            records = np.frombuffer(part.read(), DTYPE)
            starts[part.header["attempt"]] = records["step"][(records["flags"] & PAUSE) == 0]
    steps = list(starts.values())
    return [int((its >= min(one[0] for one in steps[index + 1 :])).sum()) for index, its in enumerate(steps[:-1])]


def newest(run: RunDirectory) -> int:
    return max((int(path.stem[5:]) for path in run.checkpoints.glob("step-*.pt")), default=0)


def kill_between_checkpoints(run: RunDirectory, rank: int) -> None:
    """Kill a rank once a new checkpoint is there and a step after it is on record."""
    before = newest(run)
    until(lambda: newest(run) > before)
    saved = (last_record(run.timings) or {}).get("step", 0)
    until(lambda: (last_record(run.timings) or {}).get("step", 0) > saved)
    os.kill(program_of(run, rank), signal.SIGKILL)
    until(run.exit.exists)


@pytest.mark.slow
def test_a_run_that_is_killed_twice_knows_what_it_lost(workdir: Path) -> None:
    train = {**SMALL, "data_args": {"shape": [1, 8, 8], "samples": 9600, "validation": 20}, "engine": "ddp"}
    table = {
        "name": "a",
        "queue": {"scheduler": "local"},
        "resources": {"ranks_per_node": 2},
        "launch": {"launcher": "local", "wait_limit": 60.0},
        "train": {**train, "strategy": "allreduce", "checkpoint_seconds": 2.0, "epochs": 3000, "batch": 8},
    }
    run = hpcsynapse.submit(JobSpec.from_dict(table), workdir / "runs").run
    for rank in (1, 0):
        kill_between_checkpoints(run, rank)
        resubmit(run)
    until(lambda: len(list(run.evidence("").iterdir())) == 3)
    until(lambda: (read_json(run.status) or {}).get("state") == "TRAINING")
    run.request_stop("enough")
    until(run.exit.exists)
    (found,) = lost_work([run])
    check(found, run)
    text = CliRunner().invoke(cli, ["report", "lost", "a"]).output
    assert "rank 1: killed by SIGKILL" in text and "rank 0: killed by SIGKILL" in text


def check(found: LostWork, run: RunDirectory) -> None:
    hours, host = found.hours, os.uname().nodename
    assert hours.exact and hours.starts == 3
    assert sum(getattr(hours, part) for part in PARTS) == pytest.approx(hours.allocated, rel=1e-3)
    killed = found.interruptions[:2]
    assert [(one.cause, one.host) for one in killed] == [
        ("rank 1: killed by SIGKILL", host),
        ("rank 0: killed by SIGKILL", host),
    ]
    assert [one.lost_steps for one in killed] == made_twice(run)
    assert found.interruptions[2].lost_steps == 0  # told to stop: saved
    assert all((run.path / one.evidence).is_file() for one in found.interruptions)
    assert hours.useful > 0 and hours.save > 0 and hours.restart > 0
