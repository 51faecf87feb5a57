"""A job of a higher partition takes the nodes: each run says so, whether it goes on, has stopped or has failed."""

import re

import pytest
from researcher import SLOW_MODEL

pytestmark = [pytest.mark.lab, pytest.mark.slow]

TRAIN = ["--model", "slow:Slow", "--batch", "64", "--engine", "ddp", "--epochs", "999"]
SLOWLY = ["--set", "train.model_args.seconds=0.15"]


def test_runs_that_are_preempted_go_back_to_the_queue_or_say_what_ended_them(slurm_lab, user):
    user.script("slow.py", SLOW_MODEL)
    again = user.submit("--name", "again", "--nodes", "2", "--partition", "low", "--requeue", *TRAIN, *SLOWLY)
    saved = user.submit("--name", "saved", "--nodes", "1", "--partition", "scavenge", *TRAIN, *SLOWLY)
    sleep = ("--nodes", "1", "--", "sleep", "600")
    ended = user.submit("--name", "ended", "--partition", "scavenge", *sleep)
    killed = user.submit("--name", "killed", "--partition", "low", "--no-requeue", *sleep)
    for run in (again, saved):
        slurm_lab.wait_until(lambda run=run: list(run.path.glob("checkpoints/*.pt")) != [], 180, "a checkpoint")
    for run in (ended, killed):
        user.wait(run, "TRAINING")

    other = slurm_lab.submit("--partition=high", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 600")
    try:
        # Whatever its ranks and its script have said meanwhile, it will run again: `wait` fails at another end.
        status = user.wait(again, "PREEMPTED", timeout=180)
        assert status["job_id"] == again.job_id
        status = user.wait(saved, "STOPPED", timeout=180)
        assert status["exit_code"] == 0 and status["reason"].startswith("preempted"), status
        for run in (ended, killed):
            status = user.wait(run, "FAILED")
            assert "preempted" in status["reason"], status
    finally:
        slurm_lab.run("scancel", other)

    def started_again():
        slurm_lab.attempt("scontrol", "update", f"JobId={again.job_id}", "StartTime=now")
        return slurm_lab.job(again.job_id)["JobState"] == "RUNNING"

    slurm_lab.wait_until(started_again, 120, "the second start of the run that was preempted")
    slurm_lab.wait_until(lambda: "resumed from step " in again.text("logs/rank-00000.log"), 120, "it goes on")
    user.hpcsynapse("stop", "again")
    assert user.wait(again, "STOPPED")["exit_code"] == 0
    resumed = int(re.search(r"resumed from step (\d+)", again.text("logs/rank-00000.log"))[1])
    assert user.status(again)["progress"]["step"] >= resumed > 0
    slurm_lab.wait_idle()
