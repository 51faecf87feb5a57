"""A study through a real queue: its jobs wait for one another, and what the queue did is found in the report."""

import itertools
import json
from pathlib import Path

import pytest
from researcher import Run

pytestmark = pytest.mark.lab

# Says when it ran and records three steps, as a program of the user's own does.
TIMED = """
import os, pathlib, time
from hpcsynapse.timing import StepRecorder

begin = time.time()
with StepRecorder() as recorder:
    for _ in range(3):
        with recorder.step(samples=8):
            time.sleep(0.05)
place = pathlib.Path(os.environ["HPCSYNAPSE_RUN_DIR"], f"span-{os.environ['RANK']}")
place.write_text(f"{begin} {time.time()}")
"""


def test_the_jobs_of_a_study_wait_for_one_another(user):
    user.script("timed.py", TIMED)
    done = user.attempt("study", "--name", "chained", "--nodes", "2,1", "--repeats", "2", "--follow", "--time", "2m",
                        "--", "python", "timed.py")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[1:5]] == ["run-2x1-r1", "run-1x1-r1", "run-2x1-r2", "run-1x1-r2"]
    assert [line.split()[1] for line in lines[5:9]] == ["FINISHED"] * 4

    told = json.loads(user.hpcsynapse("status", "chained", "--json"))
    runs = [Run(name=one["name"], job_id=one["job_id"], path=Path(one["path"])) for one in told]
    spans = [[tuple(map(float, path.read_text().split())) for path in run.path.glob("span-*")] for run in runs]
    assert [len(span) for span in spans] == [2, 1, 2, 1]
    for before, after in itertools.pairwise(spans):
        assert max(end for _, end in before) < min(begin for begin, _ in after)
    for before, run in itertools.pairwise(runs):
        assert f"--dependency=afterany:{before.job_id}" in run.file("submission.json")["command"]

    rows = json.loads(user.hpcsynapse("report", "chained", "--json"))
    assert [(row["nodes"], row["ranks"], row["repeats"], row["steps"]) for row in rows] == [(1, 1, 2, 6), (2, 2, 2, 6)]
