"""Runs come back: in their job, on a spare node, by another job; and give up where that is no use."""

import hashlib
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from researcher import SLOW_MODEL

pytestmark = [pytest.mark.lab, pytest.mark.slow]

TRAIN = ["--model", "slow:Slow", "--batch", "64", "--engine", "ddp", "--set", "train.data_workers=0"]
TORCH = """
import sys, torch
content = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
for name, value in sorted(content["model"].items()):
    print(name, value.numpy().tobytes().hex())
print(content["progress"]["step"])
"""


def parameters(user, run) -> str:
    """A hash of the final parameters and step of a run."""
    newest = max(run.path.glob("checkpoints/step-*.pt"))
    done = user.call("python", user.script("dump.py", TORCH), str(newest))
    assert done.returncode == 0, done.stderr
    return hashlib.sha256(done.stdout.encode()).hexdigest()


def starts(run, event: str):
    import json

    lines = [json.loads(line) for line in run.text("starts.jsonl").splitlines()]
    return [line for line in lines if line["event"] == event]


def trainer_of(run, rank: int) -> int:
    """The process of a rank that trains, below its wrapper, on this machine's virtual nodes."""
    wrapper = {one["rank"]: one["pid"] for one in run.file("placement.json")["ranks"]}
    host = {one["rank"]: one["host"] for one in run.file("placement.json")["ranks"]}[rank]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environ = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = b"train" in words and str(run.path).encode() in words and b"rank" not in words
        if ours and f"RANK={rank}".encode() in environ:
            return int(entry.name)
    pytest.fail(f"rank {rank} of {run.name} (wrapper {wrapper[rank]} on {host}) is not running")


def until_checkpoint(lab, run, count: int = 1):
    lab.wait_until(lambda: len(list(run.path.glob("checkpoints/step-*.pt"))) >= count, 180, "a checkpoint")


def test_a_killed_rank_starts_again_in_its_job_and_ends_as_if_nothing_had_happened(slurm_lab, user):
    user.script("slow.py", SLOW_MODEL)
    steps = ["--steps", "60", "--checkpoint-seconds", "1"]
    whole = user.submit("--name", "whole", "--nodes", "2", *TRAIN, *steps)
    run = user.submit("--name", "killed", "--nodes", "2", "--job-restarts", "3", *TRAIN, *steps)
    until_checkpoint(slurm_lab, run)
    os.kill(trainer_of(run, 1), signal.SIGKILL)
    user.finish(run)
    user.finish(whole)
    ends = starts(run, "end")
    assert [(one["cause"], one["action"]) for one in ends] == [("failed", "restart"), ("finished", "end")]
    assert len({tuple(one["hosts"]) for one in starts(run, "begin")}) == 1
    assert parameters(user, run) == parameters(user, whole)
    assert "resumed from step" in run.text("logs/rank-00000.log")
    assert "again in the job: rank 1 on" in run.text("logs/job.log")
    other = user.submit("--name", "seed", "--nodes", "2", "--seed", "1", *TRAIN, *steps)
    user.finish(other)
    assert parameters(user, other) != parameters(user, whole)  # the comparison can fail


def test_a_lost_node_is_replaced_by_a_spare_one(slurm_lab, user):
    user.script("slow.py", SLOW_MODEL)
    run = user.submit(
        "--name",
        "spared",
        "--nodes",
        "2",
        "--spares",
        "1",
        *TRAIN,
        "--epochs",
        "999",
        "--set",
        "train.model_args.seconds=0.15",
    )
    until_checkpoint(slurm_lab, run)
    hosts = [one["host"] for one in run.file("placement.json")["ranks"]]
    lost = int(hosts[1].removeprefix(slurm_lab.name))
    slurm_lab.node("crash", lost)
    try:
        slurm_lab.wait_until(lambda: len(starts(run, "begin")) == 2, 120, "a second start")
        slurm_lab.wait_until(lambda: "resumed from step" in run.text("logs/rank-00000.log"), 120, "training goes on")
        began, ended = starts(run, "begin"), starts(run, "end")[0]
        assert ended["lost"] == [hosts[1]] and hosts[1] not in began[1]["hosts"]
        assert len(began[1]["hosts"]) == 2 and began[1]["job"] == began[0]["job"]
        user.hpcsynapse("stop", "spared")
        status = user.wait(run, "STOPPED", timeout=180)
    finally:
        slurm_lab.node("start", lost)
    assert status["job_id"] == run.job_id
    assert {one["host"] for one in run.file("placement.json")["ranks"]} == set(began[1]["hosts"])
    slurm_lab.wait_idle()


def test_a_crash_loop_ends_with_an_exit_code_of_its_own(slurm_lab, user):
    user.script(
        "broken.py", SLOW_MODEL.replace("def forward(self, images):", "def forward(self, images):\n        1 / 0")
    )
    run = user.submit(
        "--name",
        "loop",
        "--nodes",
        "1",
        "--job-restarts",
        "1",
        "--requeues",
        "9",
        "--no-progress",
        "2",
        *TRAIN,
        "--model",
        "broken:Slow",
    )
    status = user.wait(run, "FAILED", timeout=240)
    assert status["exit_code"] == 93
    assert re.match(
        "no progress: 2 starts in a row without a newer checkpoint; rank 0 on .*ZeroDivision", status["reason"]
    )


@pytest.mark.parametrize("scontrol", [True, False])
def test_a_failure_is_queued_again_with_and_without_scontrol(slurm_lab, user, scontrol):
    user.script(
        "once.py",
        "import os, pathlib, sys\nrun = pathlib.Path(os.environ['HPCSYNAPSE_RUN_DIR'])\n"
        "(run / 'checkpoints' / 'mine').write_text('')\nbefore = run / 'before'\n"
        "sys.exit(0 if before.exists() else before.touch() or 3)\n",
    )
    hidden = []
    if not scontrol:
        without = user.folder / "bin"
        without.mkdir()
        for program in Path("/usr/bin").iterdir():
            if program.name != "scontrol":
                (without / program.name).symlink_to(program)
        hidden = ["--prelude", f"PATH={Path(sys.executable).parent}:{without}"]
    run = user.submit(
        "--name", f"again-{scontrol}", "--nodes", "1", "--requeues", "1", *hidden, "--", "python", "once.py"
    )
    slurm_lab.wait_until(lambda: starts(run, "end") != [], 120, "the first start has ended")

    def finished():
        # Slurm itself waits for two minutes; within seconds nodes refuse the job's steps, whose credential is revoked.
        if time.time() > starts(run, "end")[0]["time"] + 6:
            slurm_lab.attempt("scontrol", "update", f"JobId={run.job_id}", "StartTime=now")
        return user.status(run)["state"] == "FINISHED"

    slurm_lab.wait_until(finished, 180, "the second start finishes")
    status = user.status(run)
    assert (status["job_id"] == run.job_id) is scontrol
    assert [one["action"] for one in starts(run, "end")] == ["queue", "end"]


def test_a_chain_of_jobs_goes_on_beyond_the_time_limit_until_it_is_done(slurm_lab, user):
    """The signal before the time limit comes from scancel, as Slurm would send it, so that nobody waits for minutes."""
    user.script("slow.py", SLOW_MODEL)
    steps = ["--steps", "150", *TRAIN]
    whole = user.submit("--name", "unbroken", "--nodes", "1", *steps)
    run = user.submit("--name", "chain", "--nodes", "1", "--chain-until-done", "--time", "10m", *steps)
    assert "--signal=B:USR1@120" in run.text("job.sh")
    jobs = [run.job_id]
    for number in range(2):
        slurm_lab.wait_until(lambda: user.status(run)["progress"].get("step", 0) > 20 * len(jobs), 120, "steps")
        slurm_lab.run("scancel", "--batch", "--signal=USR1", jobs[-1])
        slurm_lab.wait_until(lambda: user.status(run)["job_id"] not in jobs, 120, f"job {number + 2} of the chain")
        told = user.status(run)
        assert told["state"] not in ("STOPPED", "FAILED", "LOST"), told
        jobs.append(told["job_id"])
    (user.folder / "hurry").touch()
    assert user.finish(run)["job_id"] == jobs[-1]
    ends = starts(run, "end")
    assert [(one["cause"], one["action"]) for one in ends] == [
        ("time", "queue"),
        ("time", "queue"),
        ("finished", "end"),
    ]
    assert [one["attempt"] for one in ends] == [f"{job}.0" for job in jobs]
    user.finish(whole)
    assert parameters(user, run) == parameters(user, whole)


def test_a_cancelled_chain_is_over(slurm_lab, user):
    user.script("slow.py", SLOW_MODEL)
    run = user.submit("--name", "over", "--nodes", "1", "--chain-until-done", "--requeues", "3", *TRAIN)
    user.wait(run, "TRAINING")
    user.hpcsynapse("cancel", "over")
    user.wait(run, "STOPPED")
    slurm_lab.wait_until(lambda: starts(run, "end") != [], 60, "the job script has ended")
    assert [one["cause"] for one in starts(run, "end")] == ["asked"]
    slurm_lab.wait_idle()


def test_where_no_node_is_left_fewer_go_on(slurm_lab, user):
    user.script("slow.py", SLOW_MODEL)
    run = user.submit(
        *("--name", "fewer", "--nodes", "2", "--min-nodes", "1", "--time", "20m", *TRAIN, "--epochs", "6"),
        *("--set", "train.model_args.seconds=0.15"),
    )
    until_checkpoint(slurm_lab, run)
    hosts = [one["host"] for one in run.file("placement.json")["ranks"]]
    lost = int(hosts[1].removeprefix(slurm_lab.name))
    slurm_lab.node("crash", lost)
    try:
        slurm_lab.wait_until(lambda: len(starts(run, "begin")) == 2, 120, "a second start")
        (user.folder / "hurry").touch()
        status = user.finish(run)
    finally:
        slurm_lab.node("start", lost)
    assert starts(run, "begin")[1]["hosts"] == hosts[:1]
    assert status["progress"]["epoch"] == 6
    changed = [item for item in run.text("history.jsonl").splitlines() if "global_batch" in item]
    assert len(changed) == 1 and '"ranks": 1, "global_batch": 64' in changed[0]
    slurm_lab.wait_idle()


BAD_NODE = """
import os, pathlib, socket, sys, time
here = pathlib.Path(os.environ["HPCSYNAPSE_RUN_DIR"], "checkpoints", f"{time.time_ns()}")
if socket.gethostname() == pathlib.Path("bad").read_text():
    here.write_text("")
    sys.exit("OSError: the disk of this node is gone")
time.sleep(2)
"""


def test_a_bad_node_is_left_out_after_two_strikes(slurm_lab, user):
    user.script("program.py", BAD_NODE)
    bad = slurm_lab.node_name(1)
    user.script("bad", bad)
    run = user.submit(
        *("--name", "struck", "--nodes", "2", "--job-restarts", "1", "--requeues", "2", "--exclude-failed"),
        *("--", "python", "program.py"),
    )
    status = user.finish(run, timeout=240)
    assert len(starts(run, "begin")) <= 3 and bad in starts(run, "begin")[0]["hosts"]
    assert bad not in starts(run, "begin")[-1]["hosts"]
    assert f"#SBATCH --exclude={bad}" in run.text("job.sh") and status["job_id"] != run.job_id
    again = user.attempt("resume", "struck", "--exclude-failed")
    assert f"leaves out {bad}: " in again.stderr
    user.finish(run)
