"""When a rank, a job script or the queue's memory fails: the first cause is named, and its exit code travels."""

import re
import subprocess
import sys

import pytest
from researcher import SLOW_MODEL, at_login

pytestmark = pytest.mark.lab

GIVE_UP = """
import os, sys, time
print("hello from", os.environ["RANK"], flush=True)
if os.environ["RANK"] == "2":
    print("rank two gives up", flush=True)
    sys.exit(3)
time.sleep(300)
"""


@pytest.fixture(scope="module", autouse=True)
def status_without_slurm(slurm_lab, tmp_path_factory):
    """A `status` with a configuration that does not exist; Slurm's commands search for half a minute."""
    user = at_login(slurm_lab, tmp_path_factory.mktemp("without-slurm"))
    user.submit("--directive=--hold", "--name", "held", "--", "true")
    asking = subprocess.Popen(
        [sys.executable, "-m", "hpcsynapse", "status"],
        cwd=user.folder,
        env=user.env | {"SLURM_CONF": "/nowhere/slurm.conf"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield asking
    asking.kill()
    user.leave()


def on_two_nodes(slurm_lab):
    """Four ranks, of which 2 and 3 are on node 2."""
    nodes = f"{slurm_lab.node_name(1)},{slurm_lab.node_name(2)}"
    return ["--nodes", "2", "--ranks-per-node", "2", f"--directive=--nodelist={nodes}"]


@pytest.mark.parametrize("launcher", ["srun", "mpirun", "torchrun"])
def test_the_rank_that_failed_is_named_and_its_exit_code_travels(slurm_lab, user, launcher):
    user.script("give_up.py", GIVE_UP)
    run, done = user.follow(
        *on_two_nodes(slurm_lab), "--launcher", launcher, "--name", "failed", "--", "python", "give_up.py"
    )
    where = f"rank 2 on {slurm_lab.node_name(2)}"
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"FAILED  ({where}: exit code 3)"
    assert f"last lines of {where}\n    hello from 2\n    rank two gives up\n" in done.stderr
    assert run.file("exit.json")["exit_code"] == 3
    status = user.status(run)
    assert (status["state"], status["exit_code"]) == ("FAILED", 3)
    assert status["failure"]["log"] == ["hello from 2", "rank two gives up"]
    shown = user.attempt("status", "failed")
    assert shown.returncode == 0
    assert f"{where}: exit code 3" in shown.stdout
    assert "rank two gives up" in shown.stderr


@pytest.mark.parametrize(
    ("victim", "reason"),
    [("program", "killed by SIGKILL"), ("wrapper", "ended without a word, as if killed from outside")],
)
def test_a_killed_rank_is_named_though_all_others_lose_their_peer(slurm_lab, user, victim, reason):
    user.script("slow.py", SLOW_MODEL)
    run = user.submit(
        *on_two_nodes(slurm_lab),
        "--model",
        "slow:Slow",
        "--engine",
        "ddp",
        "--batch",
        "8",
        "--epochs",
        "1000",
        "--name",
        "bereft",
    )
    slurm_lab.wait_until(lambda: (user.status(run)["progress"].get("step") or 0) > 0, 120, "a first step")
    pid = run.file("placement.json")["ranks"][3]["pid"]
    on_node = [str(slurm_lab.scripts / "node"), "exec", "2"]
    slurm_lab.run(*on_node, *(["pkill", "-KILL", "-P"] if victim == "program" else ["kill", "-KILL"]), str(pid))
    status = user.wait(run, "FAILED")
    assert status["reason"] == f"rank 3 on {slurm_lab.node_name(2)}: {reason}"
    # A killed wrapper leaves no code; srun's then depends on how fast the others ended.
    assert status["exit_code"] in ((137,) if victim == "program" else (137, 143, 1))
    remaining = slurm_lab.attempt(*on_node, "pgrep", "-f", f"hpcsynapse.* {run.path}")
    assert remaining.stdout == ""


def test_a_program_that_is_not_there_is_named(user):
    run, done = user.follow("--env", "PATH=/nowhere", "--name", "absent", "--", "tell-me-not")
    assert done.returncode == 2
    assert "'tell-me-not' is not found" in done.stderr
    assert not run.path.exists()


def test_a_killed_job_script_is_a_failure(slurm_lab, user):
    run = user.submit(f"--directive=--nodelist={slurm_lab.node_name(1)}", "--name", "beheaded", "--", "sleep", "300")
    user.wait(run, "TRAINING")
    script = f"job0*{run.job_id}/slurm_script"
    slurm_lab.run(str(slurm_lab.scripts / "node"), "exec", "1", "pkill", "-KILL", "-f", script)
    status = user.wait(run, "FAILED")
    assert "job script was killed" in status["reason"]


def queue_says(tmp_path, text):
    """A squeue that only fails with this message, first on the PATH."""
    wrapper = tmp_path / "bin" / "squeue"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\necho "{text}" >&2\nexit 1\n')
    wrapper.chmod(0o755)
    return wrapper.parent


@pytest.mark.parametrize(
    ("answer", "states", "reason"),
    [
        ("slurm_load_jobs error: Invalid job id specified", ["FAILED", "LOST"], "no longer knows the job"),
        ("slurm_load_jobs error: Unable to contact slurm controller", ["FAILED", "QUEUED"], "Unable to contact"),
    ],
)
def test_what_the_queue_cannot_say_is_judged_by_the_exit_file(user, tmp_path, answer, states, reason):
    ended = user.submit("--name", "ended", "--", "bash", "-c", "exit 4")
    user.wait(ended, "FAILED")
    user.submit("--directive=--hold", "--name", "held", "--", "true")
    path = f"{queue_says(tmp_path, answer)}:{user.env['PATH']}"
    lines = {line.split()[0]: line for line in user.hpcsynapse("status", env={"PATH": path}).splitlines()}
    assert [lines[name].split()[3] for name in ("ended", "held")] == states
    assert "exit code 4" in lines["ended"]
    assert reason in lines["held"]


@pytest.mark.slow
def test_status_is_printed_when_slurm_cannot_be_found(status_without_slurm):
    printed, said = status_without_slurm.communicate(timeout=90)
    assert status_without_slurm.returncode == 0, said
    assert re.search(r"^held +\d+ +1x1 +QUEUED ", printed, re.MULTILINE), printed
    assert "squeue did not answer" in printed or "slurm does not answer" in printed
