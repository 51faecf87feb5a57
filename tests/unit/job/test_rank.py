"""The process around every rank: what it does when the run directory cannot be written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcsynapse.files import read_json, write_json
from hpcsynapse.job.rank import _gather
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.resources import ResourceRequest

PROGRAM = """
trap 'sleep 0.2; echo saved > "$0.saved"; exit 0' TERM
echo ready > "$0.ready"
while :; do sleep 0.05; done
"""


def test_a_program_told_to_end_saves_though_nothing_can_be_put_on_record(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="run", queue=QueueOptions(scheduler="local")))
    command = [
        sys.executable,
        "-m",
        "hpcsynapse.job",
        "rank",
        str(run.path),
        "--",
        "bash",
        "-c",
        PROGRAM,
        str(tmp_path / "it"),
    ]
    environment = {**os.environ, "HPCSYNAPSE_ATTEMPT": "0"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as rank:
        end = time.monotonic() + 30
        while not (tmp_path / "it.ready").exists():
            assert rank.poll() is None and time.monotonic() < end, rank.communicate()[1]
            time.sleep(0.02)
        shutil.rmtree(run.evidence("0"))
        rank.send_signal(signal.SIGTERM)
        _, said = rank.communicate(timeout=30)
    assert (tmp_path / "it.saved").exists(), said
    assert rank.returncode == 0


@pytest.mark.parametrize("pin", ["auto", "visible"])
def test_one_rank_of_a_node_is_given_all_of_its_devices(tmp_path: Path, pin: str) -> None:
    show = 'echo "$CUDA_VISIBLE_DEVICES $LOCAL_RANK ${HPCSYNAPSE_DEVICE_INDEX-none}"'
    spec = JobSpec(
        name="run",
        queue=QueueOptions(scheduler="local"),
        resources=ResourceRequest(gpus=4, ranks_per_node=1),
        launch=LaunchOptions(pin=pin),
        command=("sh", "-c", show),
    )
    run = RunDirectory.create(tmp_path, spec)
    environment = {**os.environ, "HPCSYNAPSE_ATTEMPT": "0", "CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    command = [sys.executable, "-m", "hpcsynapse.job", "rank", str(run.path), "--", *spec.command]
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert run.rank_log(0).read_text().split() == ["4,5,6,7", "0", "0" if pin == "auto" else "none"]


def test_unlike_devices_of_one_job_are_warned_of_and_put_on_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = JobSpec(
        name="run",
        queue=QueueOptions(scheduler="local"),
        resources=ResourceRequest(ranks_per_node=2),
        command=("true",),
    )
    run = RunDirectory.create(tmp_path, spec)
    run.evidence("0").mkdir(parents=True, exist_ok=True)
    for rank, kind in enumerate(["Kind A", "Kind B"]):
        shown = {"rank": rank, "host": "n1", "cpus": [0, 1], "granted": [], "device": None, "device_name": kind}
        write_json(run.evidence("0") / f"rank-{rank:05d}.json", shown)
    _gather(run, spec, "0")
    said = capsys.readouterr().err
    assert "warning: the ranks are on unlike GPUs (1 on Kind A, 1 on Kind B)" in said
    told = read_json(run.placement)
    assert told is not None
    assert told["verified"] is True
    assert told["warning"] in said
