"""The process around every rank: what it does when the run directory cannot be written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from hpcsynapse.rundir import RunDirectory
from hpcsynapse.spec import JobSpec, QueueOptions

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
        "hpcsynapse.rank",
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
