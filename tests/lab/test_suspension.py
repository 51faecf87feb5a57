"""A job that its queue holds still for longer than any rank may be silent goes on as if nothing had been."""

import time

import pytest
from researcher import SLOW_MODEL

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LIMIT = 8  # seconds that a rank may be silent
TRAIN = ["--model", "slow:Slow", "--batch", "64", "--epochs", "999", "--wait-limit", str(LIMIT)]


def test_suspended_for_longer_than_the_wait_limit(slurm_lab, user):
    user.script("slow.py", SLOW_MODEL)
    slow = ("--set", "train.model_args.seconds=0.1")
    runs = [
        user.submit("--name", "gloo", "--nodes", "2", "--engine", "ddp", *TRAIN, *slow),
        user.submit(
            "--name", "servers", "--nodes", "2", "--launcher", "greasy", "--strategy", "ps-async", *TRAIN, *slow
        ),
    ]
    for run in runs:
        slurm_lab.wait_until(lambda run=run: (user.status(run)["progress"].get("step") or 0) > 1, 180, "first steps")
        slurm_lab.run("scontrol", "suspend", run.job_id)
    for run in runs:
        assert user.wait(run, "SUSPENDED")["native_state"] == "SUSPENDED"
    since = time.monotonic()
    slurm_lab.wait_until(lambda: time.monotonic() - since > 2 * LIMIT, 60, "longer than the wait limit")
    before = {run.name: user.status(run)["progress"]["step"] for run in runs}
    for run in runs:
        slurm_lab.run("scontrol", "resume", run.job_id)
        user.wait(run, "TRAINING", "EVALUATING", "SAVING")
    for run in runs:
        further = before[run.name] + 5
        slurm_lab.wait_until(
            lambda run=run, further=further: (
                user.wait(run, "TRAINING", "EVALUATING", "SAVING")["progress"]["step"] > further
            ),
            180,
            "it goes on",
        )
        user.hpcsynapse("stop", run.name)
        assert user.wait(run, "STOPPED")["exit_code"] == 0
