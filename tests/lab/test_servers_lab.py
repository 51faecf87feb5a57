"""Parameter servers under the queue: laid out over nodes, pinned, and not disturbed by a lost worker or node."""

import json

import pytest
from researcher import SLOW_MODEL

from hpcsynapse.timing import PAUSE

pytestmark = [pytest.mark.lab, pytest.mark.multiprocess]

TINY = ["--data", "digits", "--model", "slow:Slow", "--batch", "32", "--threads", "1"]


def steps(user, run):
    """How many steps every rank has recorded, pauses left out."""
    records = [
        one for one in json.loads(user.hpcsynapse("records", "--json", str(run.path))) if not one["flags"] & PAUSE
    ]
    return {rank: sum(one["rank"] == rank for one in records) for rank in {one["rank"] for one in records}}


def training(slurm_lab, user, run, least=2):
    slurm_lab.wait_until(lambda: (user.status(run)["progress"].get("step") or 0) >= least, 120, f"{least} steps")


def test_mixed_on_two_nodes_with_a_server_on_a_node_of_its_own(slurm_lab, user):
    user.script("slow.py", SLOW_MODEL)
    run = user.submit(
        "--nodes", "2", "--gpus", "2", "--strategy", "mixed", "--server-nodes", "1", *TINY, "--steps", "8",
        "--set", "train.model_args.seconds=0.02", "--name", "mixed",
    )  # fmt: skip  # a command line
    status = user.finish(run)
    assert (status["exit_code"], status["progress"]["strategy"], status["progress"]["step"]) == (0, "mixed", 8)
    ranks = run.file("placement.json")["ranks"]
    assert [(one["rank"], one["local_rank"], one["device"]) for one in ranks] == [
        (0, 0, "0"),
        (1, 1, "1"),
        (2, 0, "0"),
        (3, 1, "1"),
    ]
    (server,) = (json.loads(path.read_text()) for path in run.path.glob("evidence/*/ps-*.json"))
    assert len({*(one["host"] for one in ranks), server["host"]}) == 3
    assert steps(user, run) == {0: 8, 1: 8, 2: 8, 3: 8}


def test_a_killed_worker_comes_back_and_a_lost_node_disturbs_nobody(slurm_lab, user):
    user.script("slow.py", SLOW_MODEL)
    run = user.submit(
        "--nodes", "3", "--strategy", "ps-async", *TINY, "--steps", "400", "--rejoin-limit", "5", "--launcher",
        "greasy", "--set", "train.model_args.seconds=0.1", "--epochs", "99", "--name", "robust",
    )  # fmt: skip  # a command line
    training(slurm_lab, user, run)
    ranks = run.file("placement.json")["ranks"]
    number = [int(one["host"].removeprefix(slurm_lab.name)) for one in ranks]
    on_node = [str(slurm_lab.scripts / "node"), "exec", str(number[1])]
    slurm_lab.run(*on_node, "pkill", "-KILL", "-P", str(ranks[1]["pid"]))
    slurm_lab.wait_until(
        lambda: "worker 1 ended with exit code 137; starting it again" in run.text("logs/job.log"), 30, "a restart"
    )
    before = user.status(run)["progress"]["step"]
    slurm_lab.node("crash", number[2])
    try:
        training(slurm_lab, user, run, before + 3)
        (user.folder / "hurry").touch()
        status = user.finish(run)
    finally:
        slurm_lab.node("start", number[2])
    assert (status["exit_code"], status["progress"]["step"]) == (0, 400)
    slurm_lab.wait_idle()
