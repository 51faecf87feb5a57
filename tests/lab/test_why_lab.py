"""What makes a real run slow on real nodes, injected on purpose: a slow disk of one node, and a slow link.

The report names the cause, the node, and what the next job leaves out.
"""

import json
import subprocess

import pytest

pytestmark = pytest.mark.lab

# A data set on a disk that is slow on one host alone, and a model large enough for its exchange to be seen.
SLOW = """
import os, socket, time
import torch
from torch import nn

class Samples:
    def __init__(self, path, slow=""):
        self.pause = 0.06 if socket.gethostname() == slow else 0.0

    def __len__(self):
        return 4096

    def batch(self, indices):
        time.sleep(self.pause)
        count = len(indices)
        return torch.ones(count, 64), torch.zeros(count, dtype=torch.long)


def model(hidden=64):
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
"""
TRAIN = ("--model", "slow:model", "--data", "slow:Samples", "--batch", "16", "--threads", "1", "--steps", "80",
         "--engine", "ddp", "--checkpoint-every", "0", "--time", "3m")  # fmt: skip  # a command line


def shares(user, *runs):
    """What each part has lost of the rank-seconds that the larger run spent in its steps."""
    rows = json.loads(user.hpcsynapse("report", "why", *runs, "--scaling", "weak", "--json"))
    parts = [row for row in rows if row["part"] not in ("start-up", "total")]
    return {row["part"]: row["lost_s"] / sum(part["point_s"] for part in parts) for row in parts}


def slow_ranks(user, run):
    rows = json.loads(user.hpcsynapse("report", "stragglers", run, "--json"))
    return [(row["rank"], row["host"], row["phase"]) for row in rows if row["slow"]]


def test_a_slow_disk_and_a_slow_link_are_found_and_the_node_is_left_out(user, slurm_lab):
    user.script("slow.py", SLOW)
    victim = slurm_lab.node_name(2)
    pair = ["--nodes", "2", *(word for index in (3, 4) for word in ("--exclude", slurm_lab.node_name(index)))]
    user.finish(user.submit("--name", "one", *TRAIN))
    for name in ("disk", "disk-2", "disk-3"):  # no host is left out on fewer than three runs
        user.finish(user.submit("--name", name, *pair, *TRAIN, "--set", f"train.data_args.slow={victim}"))
    lost = shares(user, "one", "disk")
    assert lost["imbalance"] > 0.25 and lost["input"] > 0.25  # one of two ranks reads, the other waits for it
    assert lost["communication"] < 0.2
    assert slow_ranks(user, "disk") == [(1, victim, "data")]
    assert f"rank 1 on {victim}" in user.hpcsynapse("report", "why", "one", "disk", "--scaling", "weak")

    # 0.3 MB of gradients a step through 20 Mbit/s: 0.12 s.
    slow_link = ["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", "20mbit", "burst", "70kb", "latency", "50ms"]
    subprocess.run(["tc", "-n", victim, *slow_link], check=True)
    try:
        user.finish(user.submit("--name", "link", *pair, *TRAIN, "--set", "train.model_args.hidden=1000"))
    finally:
        subprocess.run(["tc", "-n", victim, "qdisc", "del", "dev", "eth0", "root"], check=True)
    lost = shares(user, "one", "link")
    assert lost["communication"] > 0.5
    assert lost["imbalance"] + lost["input"] < 0.2
    assert slow_ranks(user, "link") == []

    rows = json.loads(user.hpcsynapse("report", "hosts", "--json"))
    assert [(row["host"], row["runs"], row["slow_runs"]) for row in rows if row["exclude"]] == [(victim, 4, 3)]
    run = user.submit("--name", "next", "--nodes", "3", "--exclude-slow", "--", "true")
    user.finish(run)
    assert f"#SBATCH --exclude={victim}\n" in run.text("job.sh")
    assert victim not in {rank["host"] for rank in run.file("placement.json")["ranks"]}
