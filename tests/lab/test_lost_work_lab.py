"""What a run lost on two nodes: told by its report, step by step as its records show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from researcher import SLOW_MODEL

from hpcsynapse.report.loading import DTYPE
from hpcsynapse.runs.records import parts
from hpcsynapse.timing import PAUSE

pytestmark = pytest.mark.lab
PARTS = ("useful", "save", "validation", "detection", "restart", "replayed", "waiting")


def steps_of_rank_0(timings: Path) -> list[Any]:
    """The numbers of the steps of each start."""
    found = {}
    for part in parts(timings):
        if part.header["rank"] == 0:
            records = np.frombuffer(part.read(), DTYPE)
            found[part.header["attempt"]] = records["step"][(records["flags"] & PAUSE) == 0]
    return list(found.values())


def test_a_run_killed_on_one_of_two_nodes(slurm_lab: Any, user: Any) -> None:
    user.script("slow.py", SLOW_MODEL)
    nodes = f"{slurm_lab.node_name(1)},{slurm_lab.node_name(2)}"
    run = user.submit(
        *("--nodes", "2", "--ranks-per-node", "1", f"--directive=--nodelist={nodes}", "--model", "slow:Slow"),
        *("--engine", "ddp", "--batch", "8", "--epochs", "1000", "--checkpoint-seconds", "1", "--validate-every", "0"),
        *("--name", "lossy"),
    )
    slurm_lab.wait_until(lambda: len(list(run.path.glob("checkpoints/step-*.pt"))) > 1, 120, "two checkpoints")
    pid = run.file("placement.json")["ranks"][1]["pid"]
    slurm_lab.run(str(slurm_lab.scripts / "node"), "exec", "2", "pkill", "-KILL", "-P", str(pid))
    user.wait(run, "FAILED")
    before = len(list(run.path.glob("evidence/*")))
    user.hpcsynapse("resume", "lossy")
    slurm_lab.wait_until(lambda: len(list(run.path.glob("evidence/*"))) > before, 120, "a second start")
    slurm_lab.wait_until(lambda: len(steps_of_rank_0(run.path / "timings")) == 2, 120, "steps of the second start")
    user.hpcsynapse("stop", "--wait", "lossy")
    (hours,) = json.loads(user.hpcsynapse("report", "lost", "lossy", "--json"))
    assert hours["starts"] == 2 and hours["exact"]
    assert sum(hours[part] for part in PARTS) == pytest.approx(hours["allocated"], rel=1e-3)
    starts = [json.loads(line) for line in run.text("starts.jsonl").splitlines()]
    times = [line["time"] for line in starts if line["event"] in ("allocated", "released")]
    assert hours["allocated"] * 3600 == pytest.approx(2 * (times[1] - times[0] + times[3] - times[2]), rel=1e-3)
    killed, stopped = json.loads(user.hpcsynapse("report", "lost", "lossy", "--interruptions", "--json"))
    assert (killed["cause"], killed["host"]) == ("rank 1: killed by SIGKILL", slurm_lab.node_name(2))
    first, second = steps_of_rank_0(run.path / "timings")
    assert killed["lost_steps"] == int((first >= second[0]).sum())
    assert (stopped["lost_steps"], stopped["host"]) == (0, "")
