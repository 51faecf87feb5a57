"""What a loop of one's own may call, by real processes: a stop at the same step everywhere, broadcasts, callbacks."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import HERE, Job, Starter, need

from hpcsynapse.files import read_json, read_json_lines
from hpcsynapse.report.loading import DTYPE
from hpcsynapse.runs import records

SCRIPTS = HERE.parents[1] / "tests" / "multiprocess" / "scripts"
KINDS = {"alone": (1, ""), "ddp": (2, ""), "mpi": (2, "mpirun"), "horovod": (2, "mpirun")}


def loop(starter: Starter, kind: str, folder: Path) -> tuple[Job, int]:
    """Start the loop and return when every rank has made 20 steps."""
    ranks, launcher = KINDS[kind]
    if launcher:
        need(kind)
    run = starter.create(f"loop-{kind}", ranks)
    job = starter.start(run, ranks, launcher, program=[str(SCRIPTS / "loop_of_ones_own.py"), kind, str(folder)])
    limit = time.monotonic() + 600
    while len(list(folder.glob("at-20-*"))) < ranks:
        assert time.monotonic() < limit, job.output()
        assert any(process.poll() is None for process in job.processes), job.output()
        time.sleep(0.05)
    return job, ranks


def ends(folder: Path, ranks: int) -> list[dict[str, Any]]:
    return [json.loads((folder / f"end-{rank}.json").read_text()) for rank in range(ranks)]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.horovod if kind == "horovod" else ()) for kind in KINDS]
)
def test_all_ranks_stop_after_the_same_step_and_have_the_same_parameters(
    starter: Starter, tmp_path: Path, kind: str
) -> None:
    job, ranks = loop(starter, kind, tmp_path)
    job.run.request_stop("stop requested")
    run = job.succeed(600.0)
    told = ends(tmp_path, ranks)
    assert len({one["steps"] for one in told}) == 1
    wanted = 0.3 if ranks > 1 else 0.0  # rank 1 goes 0.1 away from 1 at every step
    assert all(one["drifts"] == pytest.approx([wanted] * 6, abs=1e-6) for one in told)
    written = read_json_lines(run.drift)
    assert [line["step"] for line in written[:3]] == [3, 6, 9]
    assert len(written) == told[0]["steps"] // 3
    assert [line["drift"] for line in written[:3]] == pytest.approx([wanted] * 3, abs=1e-6)
    status = read_json(run.status) or {}
    assert (status["state"], status["reason"]) == ("STOPPED", "stop requested")
    assert "hpcsynapse: stop requested; stopping after this step" in job.output()


def test_a_signal_to_one_rank_stops_all_after_the_same_step(starter: Starter, tmp_path: Path) -> None:
    job, ranks = loop(starter, "ddp", tmp_path)
    job.processes[1].send_signal(signal.SIGUSR1)
    run = job.succeed(600.0)
    assert len({one["steps"] for one in ends(tmp_path, ranks)}) == 1
    assert (read_json(run.status) or {})["reason"] == "a signal received by another rank"


@pytest.mark.parametrize("kind", ["lightning", "accelerate", "trainer"])
@pytest.mark.parametrize("stopped", [False, True])
def test_callbacks_record_steps_broadcast_and_stop(starter: Starter, kind: str, stopped: bool) -> None:
    if kind != "trainer":
        pytest.importorskip(kind)
    run = starter.create(f"callback-{kind}")
    if stopped:
        run.request_stop("stop requested")
    job = starter.start(run, program=[str(SCRIPTS / "with_callbacks.py"), kind, "3"])
    job.succeed(600.0)
    # 330 samples are 21 batches of 16, the last of 10; a step takes two of them, the last step one.
    steps = 1 if stopped else 11
    assert f"made {steps}" in job.output()
    (part,) = records.parts(run.timings)
    found = np.frombuffer(part.read(), DTYPE)
    last = 32 if kind == "trainer" else 10  # the protocol of the Trainer tells no more than its settings
    assert found["samples"].tolist() == ([32] if stopped else [32] * 10 + [last])
    assert np.isfinite(found["loss"]).all() == (kind != "trainer")
    assert [line["step"] for line in read_json_lines(run.drift)] == ([] if stopped else [3, 6, 9])
