"""A study through a real queue: its jobs wait for one another, and what the queue did is found in the report."""

import itertools
import json
from pathlib import Path

import pytest
from researcher import TELL, Researcher, Run

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
                        "--", "python", "timed.py")  # fmt: skip  # a command line
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


def test_what_varies_reaches_a_program_and_its_report(user):
    user.script("timed.py", TIMED)
    done = user.attempt(
        "study",
        "--name",
        "own",
        "--nodes",
        "1,2",
        "--batch",
        "4",
        "--vary",
        "train.lr=0.1,0.01",
        "--jobs",
        "packed",
        "--follow",
        "--time",
        "5m",
        "--",
        "python",
        "timed.py",
        "--batch",
        "{batch}",
        "--lr={train.lr}",
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(states(user, "own")) == {"run-1x1-lr0.1", "run-1x1-lr0.01", "run-2x1-lr0.1", "run-2x1-lr0.01"}
    rows = json.loads(user.hpcsynapse("report", "own", "--json"))
    found = sorted((row["ranks"], row["--lr"], row["repeats"], row["baseline_ranks"]) for row in rows)
    assert found == [(ranks, rate, 1, 1) for ranks in (1, 2) for rate in ("0.01", "0.1")]


def points_of(user: Researcher, study: str) -> dict[str, Run]:
    """The runs of a study by name, in its order."""
    told = json.loads(user.hpcsynapse("status", study, "--json"))
    return {one["name"]: Run(name=one["name"], job_id=one["job_id"], path=Path(one["path"])) for one in told}


def states(user: Researcher, study: str) -> dict[str, str]:
    return {one["name"]: one["state"] for one in json.loads(user.hpcsynapse("status", study, "--json"))}


def test_a_packed_study_runs_on_nested_parts_of_one_allocation(user):
    user.script("tell.py", TELL + TIMED)
    done = user.attempt(
        "study",
        "--name",
        "packed",
        "--nodes",
        "1,2,4",
        "--gpus",
        "2,4",
        "--jobs",
        "packed",
        "--follow",
        "--time",
        "1m",
        "--pin",
        "visible",
        "--",
        "python",
        "tell.py",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = points_of(user, "packed")
    assert list(runs) == [f"run-{nodes}x{gpus}-g{gpus}" for nodes in (4, 2, 1) for gpus in (2, 4)]
    assert len({run.job_id for run in runs.values()}) == 1
    job = user.lab.job(next(iter(runs.values())).job_id)
    assert (job["NumNodes"], job["JobState"]) == ("4", "COMPLETED")
    hosts = [user.lab.node_name(index) for index in (1, 2, 3, 4)]
    for run in runs.values():
        nodes, gpus = map(int, run.name.split("-")[1].split("x"))
        told = run.by_rank(nodes * gpus)
        assert [one["host"] for one in told] == [host for host in hosts[:nodes] for _ in range(gpus)]
        assert [one["env"]["CUDA_VISIBLE_DEVICES"] for one in told] == [str(gpu) for gpu in range(gpus)] * nodes
        assert {one["env"]["MASTER_ADDR"] for one in told} == {hosts[0]}
    spans = [[tuple(map(float, path.read_text().split())) for path in run.path.glob("span-*")] for run in runs.values()]
    for before, after in itertools.pairwise(spans):
        assert max(end for _, end in before) < min(begin for begin, _ in after)


@pytest.mark.parametrize("launcher", ["mpirun", "torchrun", "greasy"])
def test_every_launcher_keeps_to_its_part_of_the_allocation(user, launcher):
    user.script("tell.py", TELL)
    done = user.attempt(
        "study",
        "--name",
        "parts",
        "--nodes",
        "1,3",
        "--ranks-per-node",
        "2",
        "--launcher",
        launcher,
        "--jobs",
        "packed",
        "--follow",
        "--time",
        "1m",
        "--",
        "python",
        "tell.py",
    )
    assert states(user, "parts") == {"run-3x2": "FINISHED", "run-1x2": "FINISHED"}, done.stdout + done.stderr
    hosts = [user.lab.node_name(index) for index in (1, 2, 3)]
    for name, nodes in (("run-3x2", 3), ("run-1x2", 1)):
        told = points_of(user, "parts")[name].by_rank(2 * nodes)
        assert [one["host"] for one in told] == [host for host in hosts[:nodes] for _ in range(2)]


WAITS = """
import os, pathlib, time
pathlib.Path("begun-" + os.environ["WORLD_SIZE"]).touch()
while os.environ["WORLD_SIZE"] == "2" and not pathlib.Path("leave").exists():
    time.sleep(0.05)
"""


def test_an_allocation_that_ends_early_leaves_a_study_that_goes_on(user):
    user.script("waits.py", WAITS)
    user.hpcsynapse(
        "study", "--name", "cut", "--nodes", "3,2,1", "--jobs", "packed", "--time", "1m", "--", "python", "waits.py"
    )
    user.wait_for(user.folder / "begun-2")
    assert states(user, "cut") == {"run-3x1": "FINISHED", "run-2x1": "TRAINING", "run-1x1": "QUEUED"}
    job_id = points_of(user, "cut")["run-1x1"].job_id
    user.lab.run("scancel", job_id)
    user.lab.wait_state(job_id, "CANCELLED")
    user.lab.wait_until(lambda: states(user, "cut")["run-2x1"] == "STOPPED", 60, "the run underway is STOPPED")
    told = {
        one["name"]: (one["state"], one["reason"]) for one in json.loads(user.hpcsynapse("status", "cut", "--json"))
    }
    assert told["run-3x1"][0] == "FINISHED"
    assert told["run-1x1"] == ("STOPPED", "the allocation ended before its turn came")
    (user.folder / "leave").touch()
    done = user.attempt("study", "--resume", "cut", "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(states(user, "cut").values()) == ["FINISHED"] * 3
    job = user.lab.job(points_of(user, "cut")["run-1x1"].job_id)
    assert job["NumNodes"] == "2"  # room for what was left


def test_a_run_of_an_allocation_can_be_cancelled_alone(user):
    user.script("waits.py", WAITS)
    user.hpcsynapse(
        "study", "--name", "one", "--nodes", "2,1", "--jobs", "packed", "--time", "1m", "--", "python", "waits.py"
    )
    user.wait_for(user.folder / "begun-2")
    user.hpcsynapse("cancel", "one/points/run-2x1")
    user.lab.wait_until(lambda: states(user, "one")["run-1x1"] == "FINISHED", 60, "the other run has FINISHED")
    assert states(user, "one")["run-2x1"] == "STOPPED"


def test_a_thousand_runs_are_one_job_array(user):
    done = user.attempt("study", "--name", "many", "--nodes", "4", "--repeats", "1000", "--jobs", "array",
                        "--time", "1m", "--directive=--begin=now+1hour", "--", "true")  # fmt: skip  # a command line
    assert done.returncode == 0 and "1000 runs  array " in done.stdout, done.stdout + done.stderr
    told = json.loads(user.hpcsynapse("status", "many", "--json"))
    assert [one["state"] for one in told] == ["QUEUED"] * 1000
    array = told[0]["job_id"].partition("_")[0]
    assert [one["job_id"] for one in told] == [f"{array}_{task}" for task in range(1000)]
    assert user.lab.run("squeue", "--noheader", "--format=%i").split() == [f"{array}_[0-999%1]"]


def test_tasks_of_an_array_run_in_their_own_directories_one_by_one(user):
    user.script("timed.py", TIMED)
    done = user.attempt("study", "--name", "array", "--nodes", "2", "--repeats", "3", "--jobs", "array", "--follow",
                        "--time", "1m", "--", "python", "timed.py")  # fmt: skip  # a command line
    assert done.returncode == 0, done.stdout + done.stderr
    runs = points_of(user, "array").values()
    spans = [[tuple(map(float, path.read_text().split())) for path in run.path.glob("span-*")] for run in runs]
    assert [len(span) for span in spans] == [2, 2, 2]
    for before, after in itertools.pairwise(spans):
        assert max(end for _, end in before) < min(begin for begin, _ in after)
    (row,) = json.loads(user.hpcsynapse("report", "array", "--json"))
    assert (row["nodes"], row["repeats"], row["steps"]) == (2, 3, 9)
    assert (next(iter(runs)).path.parents[1] / "jobs" / "array-1.log").read_text() == ""
