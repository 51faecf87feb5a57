"""Only the job script is told to end: the ranks have time to save all the same, and the run has not finished."""

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.slow]

SAVES = """
import os, pathlib, signal, sys, time

def save(number, frame):
    time.sleep(4)
    pathlib.Path(f"saved-{sys.argv[1]}-{os.environ['RANK']}").touch()
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
print("begin", flush=True)
while True:
    time.sleep(0.1)
"""


def test_a_batch_shell_that_is_told_alone(slurm_lab, user):
    user.script("saves.py", SAVES)
    runs = [
        user.submit("--nodes", "2", "--launcher", launcher, "--name", launcher, "--", "python", "saves.py", launcher)
        for launcher in ("srun", "mpirun")
    ]
    for run in runs:
        slurm_lab.wait_until(
            lambda run=run: all("begin" in run.text(f"logs/rank-0000{rank}.log") for rank in (0, 1)), 180, "both ranks"
        )
        slurm_lab.run("scancel", "--batch", "--signal=TERM", run.job_id)
        status = user.wait(run, "STOPPED")
        assert (status["exit_code"], status["reason"]) == (0, "told to end by SIGTERM"), user.story(run, status)
        assert sorted(path.name for path in user.folder.glob(f"saved-{run.name}-*")) == [
            f"saved-{run.name}-{rank}" for rank in (0, 1)
        ]
