"""A real Slurm that answers late, in full, or through somebody's wrapper: no job is lost, doubled or misjudged."""

import json
import os
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab


def wrapper(user, text: str) -> dict[str, str]:
    """A site's own sbatch in front of Slurm's; `$REAL` is the latter."""
    folder = user.folder / "site-bin"
    folder.mkdir(exist_ok=True)
    real = next(path for part in user.env["PATH"].split(":") if (path := Path(part) / "sbatch").is_file())
    (folder / "sbatch").write_text(f"#!/bin/bash\nREAL={real}\n{text}\n")
    (folder / "sbatch").chmod(0o755)
    return {"PATH": f"{folder}:{user.env['PATH']}"}


def all_jobs(slurm_lab) -> list[str]:
    return slurm_lab.run("squeue", "-h", "-o", "%i").split()


def test_a_job_that_arrives_while_the_controller_hangs_is_found_and_never_doubled(user, slurm_lab):
    """sbatch gives up while slurmctld is stopped; the job is taken as soon as it goes on."""
    controller = int((slurm_lab.conf.parent / "slurmctld.pid").read_text())
    os.kill(controller, signal.SIGSTOP)
    try:
        done = user.attempt("submit", "--scheduler", "slurm", "--nodes", "1", "--time", "2m", "--name", "ghost",
                            "--", "sleep", "5", timeout=300)  # fmt: skip  # a command line
    finally:
        os.kill(controller, signal.SIGCONT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "UNKNOWN" in done.stderr and "do not submit it once more" in done.stderr
    run = user.find("ghost")
    refused = user.attempt("submit", "--resume-run", "ghost")
    slurm_lab.wait_until(lambda: user.status(run)["state"] != "UNKNOWN" or not all_jobs(slurm_lab), 60, "an answer")
    status = user.status(run)
    if status["job_id"]:  # it had reached the controller: the usual case
        assert status["state"] not in ("FAILED", "LOST") or user.find("ghost").job_id
        assert user.wait(run, "FINISHED", "FAILED", timeout=90)["state"] == "FINISHED"
        assert json.loads((run.path / "submission.json").read_text())["job_id"] == status["job_id"]
        assert refused.returncode in (1, 2)
    else:
        assert status["state"] == "UNKNOWN" and refused.returncode == 2, refused.stderr


def test_the_answer_of_sbatch_is_lost_but_the_job_is_found(user):
    env = wrapper(
        user,
        '"$REAL" "$@" > /dev/null\n'
        'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv" >&2; exit 1',
    )
    run = user.submit("--nodes", "1", "--time", "2m", "--", "true", env=env)
    assert run.job_id.isdigit()
    assert user.finish(run)["state"] == "FINISHED"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('for word; do shift; [ "$word" = --parsable ] || set -- "$@" "$word"; done; "$REAL" "$@"; echo 2026', ""),
        ('"$REAL" "$@"; echo; date +%Y', ""),
        ('echo "sbatch: warning: your quota is at 99 %" >&2; "$REAL" "$@"', "the queue says: sbatch: warning"),
    ],
)
def test_wrappers_of_sbatch(user, text, said):
    done = user.attempt("submit", "--nodes", "1", "--time", "2m", "--json", "--", "true", env=wrapper(user, text))
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    run = user.find(json.loads(done.stdout)["run"])
    assert user.finish(run)["state"] == "FINISHED"
    if said:
        assert "quota is at 99 %" in run.file("submission.json")["said"]


@pytest.mark.parametrize("output", ["", "> /dev/null"])
def test_a_wrapper_that_queues_a_copy_and_fails_behind_it(user, output):
    copied = 'cp "${@: -1}" copy.sh; set -- "${@:1:$#-1}" copy.sh; "$REAL" "$@" '
    asked_only = '[ -f "${@: -1}" ] || exec "$REAL" "$@"; '
    env = wrapper(user, asked_only + copied + f"{output}; echo 'hook: disk full' >&2; exit 1")
    done = user.attempt("submit", "--nodes", "1", "--time", "9m", "--name", "copied", "--", "sleep", "500", env=env)
    assert (done.returncode == 0) == (not output) and "hook: disk full" in done.stderr
    run = user.find("copied")
    assert user.status(run)["state"] != "FAILED"
    assert user.wait(run, "SETUP", "TRAINING", timeout=120)["job_id"]
    assert user.attempt("submit", "--resume-run", "copied").returncode == 2
    assert user.attempt("cancel", "copied", env={"SCANCEL_STATE": "PENDING"}).returncode == 0
    assert user.wait(run, "STOPPED", timeout=120)["reason"] == "cancelled"


def test_a_refusal_of_many_lines_is_kept_whole(user):
    lines = [f"account proj{number}" for number in range(8)]
    text = "".join(f'echo "sbatch: error: {line}" >&2\n' for line in ["choose one of:", *lines]) + "exit 1"
    done = user.attempt("submit", "--nodes", "1", "--name", "refused", "--", "true", env=wrapper(user, text))
    assert done.returncode == 1 and all(line in done.stderr for line in lines)
    status = user.status(user.find("refused"))
    assert status["state"] == "FAILED" and all(line in status["reason"] for line in lines)


def test_tasks_of_a_broken_array_are_neither_lost_nor_queued_again(user, slurm_lab):
    """squeue cuts the short form of tasks that are no neighbours; every second one of 40 is cancelled here."""
    user.script("wait.py", "import time; time.sleep(600)")
    done = user.attempt("study", "--name", "many", "--repeats", "40", "--nodes", "4", "--jobs", "array", "--time", "2m",
                        "--", "python", "wait.py")  # fmt: skip  # a command line
    assert done.returncode == 0, done.stderr
    told = json.loads(user.hpcsynapse("status", "many", "--json"))
    array = told[0]["job_id"].partition("_")[0]
    slurm_lab.run("scancel", *[f"{array}_{task}" for task in range(3, 40, 2)])
    states = {one["job_id"]: one["state"] for one in json.loads(user.hpcsynapse("status", "many", "--json"))}
    assert [states[f"{array}_{task}"] for task in range(4, 40, 2)] == ["QUEUED"] * 18
    assert {states[f"{array}_{task}"] for task in range(3, 40, 2)} == {"STOPPED"}
    user.attempt("cancel", "many")
    slurm_lab.wait_until(lambda: not all_jobs(slurm_lab), 60, "every task of the array to end")


def test_two_jobs_of_one_run_do_not_write_into_one_directory(user, slurm_lab):
    """Somebody queues the job file by hand while the run goes on."""
    user.script("long.sh", "echo begun >> begun; sleep 8")
    run = user.submit("--nodes", "1", "--time", "2m", "--", "bash", "long.sh")
    user.wait_for(user.folder / "begun")
    second = slurm_lab.submit(str(run.path / "job.sh"))
    ended = slurm_lab.wait_state(second, "FAILED", "COMPLETED", "CANCELLED")
    assert ended["JobState"] == "FAILED"
    assert f"this run belongs to job {run.job_id}" in run.text("logs/job.log")
    assert user.finish(run)["state"] == "FINISHED"
    assert (user.folder / "begun").read_text() == "begun\n"


def test_defaults_of_the_login_environment_are_used_and_said(user):
    done = user.attempt(
        "submit",
        "--nodes",
        "1",
        "--time",
        "1m",
        "--json",
        "--",
        "true",
        env={"SBATCH_PARTITION": "debug", "OMPI_MCA_btl": "self,tcp", "SLURM_JOB_ID": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "partition debug, from SBATCH_PARTITION" in done.stderr
    assert "not passed on" in done.stderr and "SLURM_JOB_ID" in done.stderr and "OMPI_MCA" not in done.stderr
    run = user.find(json.loads(done.stdout)["run"])
    assert "#SBATCH --partition=debug" in run.text("job.sh")
    assert user.finish(run)["state"] == "FINISHED"


SIGNALLED = """
import os, pathlib, signal, sys, time
place = pathlib.Path(os.environ["HPCSYNAPSE_RUN_DIR"])
def save(number, frame):
    (place / f"saved-{os.environ['RANK']}").write_text("saved")
    sys.exit(0)
signal.signal(signal.SIGUSR1, save)
(place / f"ready-{os.environ['RANK']}").write_text("")
time.sleep(120)
"""


@pytest.mark.parametrize("launcher", ["mpirun", "torchrun"])
def test_the_signal_before_the_limit_reaches_every_rank_of_an_own_program(user, launcher):
    user.script("mine.py", SIGNALLED)
    run = user.submit("--nodes", "2", "--ranks-per-node", "2", "--time", "2m", "--signal", "USR1@80", "--launcher",
                      launcher, "--", "python", "mine.py")  # fmt: skip  # a command line
    status = user.finish(run)
    assert sorted(path.name for path in run.path.glob("saved-*")) == [f"saved-{rank}" for rank in range(4)], status
    assert status["state"] == "FINISHED", user.story(run, status)


def test_nothing_of_the_login_environment_is_needed_when_the_site_demands_it(user):
    user.script("told.sh", 'echo "$FOO $MASTER_ADDR" > told-$RANK')
    run = user.submit(
        "--nodes", "2", "--time", "1m", "--directive=--export=NONE", "--env", "FOO=bar", "--", "bash", "told.sh"
    )
    assert user.finish(run)["state"] == "FINISHED"
    for rank in range(2):
        foo, address = (user.folder / f"told-{rank}").read_text().split()
        assert foo == "bar" and address


@pytest.mark.parametrize("launcher", ["mpirun", "srun"])
def test_ranks_have_the_cores_they_asked_for(user, launcher):
    """The daemon that mpirun starts on other nodes is a job step of its own, and the ranks live in it."""
    user.script("step.sh", 'scontrol show step "$SLURM_JOB_ID" > "step-$RANK" 2>&1; env > "env-$RANK"')
    run = user.submit("--nodes", "2", "--ranks-per-node", "2", "--cpus", "2", "--time", "1m", "--launcher", launcher,
                      "--", "bash", "step.sh")  # fmt: skip  # a command line
    assert user.finish(run)["state"] == "FINISHED"
    told = dict(line.partition("=")[::2] for line in (user.folder / "env-3").read_text().splitlines())
    per_task, tasks = int(told["SLURM_CPUS_PER_TASK"]), 1 if launcher == "mpirun" else 2
    assert per_task * tasks == 4, (user.folder / "step-3").read_text()
