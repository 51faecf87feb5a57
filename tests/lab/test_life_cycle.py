"""A run from its queue to its end: watched, stopped, resumed, cancelled, and ended by its time limit."""

import csv
import re
import subprocess
import sys

import pytest
from researcher import SLOW_MODEL, at_login

pytestmark = pytest.mark.lab

STAY = """
import os, pathlib, time
print("begin", os.environ["RANK"], flush=True)
for _ in range(600):
    if pathlib.Path("leave").exists():
        break
    time.sleep(0.1)
print("end", os.environ["RANK"], flush=True)
"""
SLOW = ("--model", "slow:Slow", "--batch", "64", "--engine", "ddp")


@pytest.fixture(scope="module", autouse=True)
def limited(slurm_lab, tmp_path_factory):
    """Two runs that meet their time limit while the other tests go on: Slurm looks at them twice a minute."""
    user = at_login(slurm_lab, tmp_path_factory.mktemp("limited"))
    user.script("slow.py", SLOW_MODEL)
    place = [f"--directive=--nodelist={slurm_lab.node_name(4)}", "--time", "1m"]
    endless = user.submit(*place, "--name", "endless", "--", "sleep", "300")
    place[-1] = "10m"
    warned = user.submit(
        *place,
        *SLOW,
        "--epochs",
        "1000",
        "--signal",
        "USR1@50",
        "--name",
        "warned",
        "--set",
        "train.model_args.seconds=0.3",
        "--checkpoint-every",
        "0",
    )
    user.wait(endless, "TRAINING")
    slurm_lab.run("scontrol", "update", f"JobId={endless.job_id}", "EndTime=now+5")
    # The signal comes once it trains, however long the start takes here.
    slurm_lab.wait_until(lambda: (user.status(warned)["progress"].get("step") or 0) > 0, 120, "a first step")
    slurm_lab.run("scontrol", "update", f"JobId={warned.job_id}", "EndTime=now+80")
    yield user, endless, warned
    user.leave()


def test_following_through_a_pipe_prints_plain_lines(user):
    user.script("slow.py", SLOW_MODEL)
    run, done = user.follow(*SLOW, "--steps", "30", "--set", "train.model_args.seconds=0.1", "--name", "followed")
    assert done.returncode == 0, done.stdout + done.stderr
    first, *lines = done.stdout.splitlines()
    assert re.fullmatch(rf"run followed  job \d+  {re.escape(str(run.path))}", first)
    assert "\r" not in done.stdout
    assert "\x1b" not in done.stdout
    states = [line.split()[0] for line in lines]
    assert set(states) <= {"QUEUED", "SETUP", "TRAINING", "EVALUATING", "SAVING", "FINISHING", "FINISHED"}
    assert states[-1] == "FINISHED"
    assert any(
        re.search(r"TRAINING  \d+%  .* left  epoch \d/2  step \d+/30 .* samples/s  loss \d", line) for line in lines
    )
    assert re.search(r"step 30/30 .* accuracy \d+\.\d%", lines[-1])


def test_stop_saves_and_a_second_job_goes_on(user):
    user.script("slow.py", SLOW_MODEL)
    run = user.submit(
        "--nodes",
        "2",
        *SLOW,
        "--steps",
        "400",
        "--set",
        "train.model_args.seconds=0.2",
        "--checkpoint-every",
        "0",
        "--name",
        "stopped",
    )
    user.lab.wait_until(lambda: (user.status(run)["progress"].get("step") or 0) > 0, 120, "a first step")
    again = user.attempt("resume", "stopped")
    assert again.returncode == 2
    assert re.search("has not ended: (TRAINING|EVALUATING|SAVING)", again.stderr), again.stderr
    assert "stop --wait stopped" in again.stderr
    told = user.hpcsynapse("stop", "--wait", "stopped").splitlines()
    assert "will stop" in told[0] and told[1].startswith("stopped  STOPPED")
    status = user.wait(run, "STOPPED")
    assert status["exit_code"] == 0
    assert status["reason"] == "stopped by user"
    stopped_at = status["progress"]["step"]
    assert 0 < stopped_at < 400
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == [f"step-{stopped_at:09d}.pt"]

    (user.folder / "hurry").touch()
    assert "job" in user.hpcsynapse("resume", "stopped", "--time", "20m")
    assert "--time=00:20:00" in run.text("job.sh") and 'time = "20m"' in run.text("run.toml")
    status = user.finish(run)
    assert status["job_id"] != run.job_id
    assert run.file("submission.json")["earlier_job_ids"] == [run.job_id]
    assert status["progress"]["step"] == 400
    log = run.text("logs/rank-00000.log")
    assert f"resumed from step {stopped_at} " in log.partition(f"--- start 2, job {status['job_id']}, ")[2], log
    table = list(csv.DictReader(user.hpcsynapse("records", "stopped", "--csv").splitlines()))
    steps = [int(row["step"]) for row in table if row["rank"] == "1" and not row["pause"]]
    assert sorted(steps) == list(range(400))


def test_logs_of_job_and_ranks(user):
    user.script("stay.py", STAY)
    run = user.submit("--nodes", "2", "--name", "spoken", "--prelude", "echo the prelude", "--", "python", "stay.py")
    following = subprocess.Popen(
        [sys.executable, "-m", "hpcsynapse", "logs", "-f", "spoken"],
        cwd=user.folder,
        env=user.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        user.lab.wait_until(lambda: "begin" in run.text("logs/rank-00001.log"), 60, "rank 1 has begun")
        assert user.hpcsynapse("logs", "spoken", "--rank", "1") == "begin 1\n"
        (user.folder / "leave").touch()
        printed, _ = following.communicate(timeout=60)
    finally:
        following.kill()
    assert sorted(printed.splitlines()) == ["begin 0", "end 0", "the prelude"]
    assert following.returncode == 0
    user.finish(run)
    assert user.hpcsynapse("logs", "spoken", "--rank", "1") == "begin 1\nend 1\n"
    assert user.attempt("logs", "spoken", "--rank", "2").returncode == 2


def test_many_runs_cost_one_squeue(user, tmp_path):
    held = [user.submit("--directive=--hold", "--name", f"held-{number}", "--", "true") for number in range(3)]
    wrapper = tmp_path / "bin" / "squeue"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\nPATH=${{PATH#*:}}\nexec squeue "$@"\n')
    wrapper.chmod(0o755)
    counted = {"PATH": f"{wrapper.parent}:{user.env['PATH']}"}
    rows = list(csv.DictReader(user.hpcsynapse("status", "--csv", env=counted).splitlines()))
    assert [(row["name"], row["state"], row["reason"]) for row in rows] == [
        (run.name, "QUEUED", "JobHeldUser") for run in held
    ]
    assert len((tmp_path / "asked").read_text().splitlines()) == 1

    user.hpcsynapse("cancel", *(run.name for run in held))
    for run in held:
        status = user.wait(run, "STOPPED")
        assert status["reason"] == "cancelled"
    assert "has ended already: STOPPED" in user.hpcsynapse("cancel", "held-0")


def test_a_running_run_is_cancelled(user):
    user.script("stay.py", STAY)
    run = user.submit("--nodes", "2", "--name", "unwanted", "--", "python", "stay.py")
    user.lab.wait_until(lambda: "begin" in run.text("logs/rank-00001.log"), 60, "rank 1 has begun")
    user.hpcsynapse("cancel", "unwanted")
    status = user.wait(run, "STOPPED")
    assert status["reason"] == "cancelled"
    assert "end" not in run.text("logs/rank-00001.log")


@pytest.mark.slow
def test_the_signal_before_the_limit_saves_and_stops(limited):
    user, _, warned = limited
    status = user.wait(warned, "STOPPED", timeout=240)
    assert status["exit_code"] == 0
    assert status["reason"] == "signal USR1 before the time limit"
    step = status["progress"]["step"]
    assert [path.name for path in (warned.path / "checkpoints").iterdir()] == [f"step-{step:09d}.pt"]


@pytest.mark.slow
def test_the_time_limit_is_named(limited):
    user, endless, _ = limited
    status = user.wait(endless, "FAILED", timeout=240)
    assert status["reason"] == "time limit reached"
    assert status["native_state"] == "TIMEOUT"
