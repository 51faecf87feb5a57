"""A node is lost: the run goes back to the queue and on from its checkpoint, or it fails and says why."""

import re

import pytest
from researcher import SLOW_MODEL

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def test_a_lost_node_requeues_one_run_and_fails_the_other(slurm_lab, user):
    user.script("slow.py", SLOW_MODEL)
    run = user.submit(
        "--nodes", "2", "--requeue", "--model", "slow:Slow", "--batch", "64", "--engine", "ddp", "--epochs", "999",
        "--set", "train.model_args.seconds=0.15", "--name", "again",
    )  # fmt: skip  # a command line
    slurm_lab.wait_until(lambda: list(run.path.glob("checkpoints/*.pt")) != [], 120, "a checkpoint")
    hosts = hosts_of(run)
    other = user.submit(
        "--nodes",
        "2",
        f"--directive=--nodelist={','.join(hosts)}",
        "--no-requeue",
        "--name",
        "once",
        "--",
        "sleep",
        "300",
    )
    user.wait(other, "TRAINING")

    lost = int(hosts[1].removeprefix(slurm_lab.name))
    slurm_lab.node("crash", lost)
    try:
        status = user.wait(other, "FAILED")
        assert status["native_state"] == "NODE_FAIL"
        assert "a node failed" in status["reason"]
        # Until the queue has decided, the run counts as running, whatever its ranks have said.
        status = user.wait(run, "QUEUED")
        assert status["job_id"] == run.job_id

        def started_again():
            slurm_lab.attempt("scontrol", "update", f"JobId={run.job_id}", "StartTime=now")
            return slurm_lab.job(run.job_id)["JobState"] == "RUNNING"

        slurm_lab.wait_until(started_again, 60, "the run's second start")
        slurm_lab.wait_until(
            lambda: (
                user.status(run)["progress"].get("attempt") == f"{run.job_id}.1"
                and "resumed from step " in run.text("logs/rank-00000.log")
            ),
            120,
            "training goes on from the checkpoint",
        )
        user.hpcsynapse("stop", "again")
        status = user.wait(run, "STOPPED")
    finally:
        slurm_lab.node("start", lost)
    assert status["job_id"] == run.job_id
    assert status["exit_code"] == 0
    resumed = int(re.search(r"resumed from step (\d+)", run.text("logs/rank-00000.log"))[1])
    assert status["progress"]["step"] >= resumed > 0
    assert hosts[1] not in hosts_of(run)
    slurm_lab.wait_idle()


def hosts_of(run):
    return [one["host"] for one in run.file("placement.json")["ranks"]]
