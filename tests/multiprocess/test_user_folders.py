"""Users' folders trained by several ranks: the examples, a job of BK.Synapse, and code that fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import torch
from jobs import HERE, LIMIT, Starter, parameters

from hpcsynapse.files import read_json
from hpcsynapse.runs import records
from hpcsynapse.runs.directory import RunDirectory

EXAMPLE = HERE.parents[1] / "examples" / "user_code"
FOLDERS = {"model": str(EXAMPLE / "model"), "data": str(EXAMPLE / "loader"), "model_args": {}, "data_args": {}}


def test_two_ranks_equal_one(starter: Starter) -> None:
    """The same data parallel update as of built-in models, from samples of a user's own collate."""
    two = starter("two", 2, engine="ddp", batch=16, epochs=1, **FOLDERS)
    one = starter("one", batch=32, epochs=1, validate_every=0, **FOLDERS)
    for name, expected in parameters(one.succeed()).items():
        assert torch.allclose(parameters(two.succeed())[name], expected, atol=1e-5), name
    status = two.status()
    assert (status["state"], status["step"]) == ("FINISHED", 20)
    assert status["metrics"].keys() == {"accuracy", "loss", "top5_accuracy", "precision", "recall", "f1"}
    steps = Counter(header["rank"] for header, _ in records.iterate(two.run.timings))
    assert steps == {0: 20, 1: 20}
    last = records.last_record(two.run.timings)
    assert last is not None and last["samples"] == 16


def test_a_failure_names_the_users_line(starter: Starter, tmp_path: Path) -> None:
    """In the rank's log, which status shows, and in the run's own state."""
    folder = tmp_path / "failing"
    shutil.copytree(EXAMPLE / "model", folder)
    file = folder / "bks_model.py"
    file.write_text(file.read_text() + "\n    def forward(self, inputs):\n        return inputs.no_such_thing\n")
    number = len(file.read_text().splitlines())
    job = starter("fails", 2, engine="ddp", steps=3, **{**FOLDERS, "model": str(folder)})
    assert job.wait() == [1, 1]
    shown = f"{file}:{number}: AttributeError: 'Tensor' object has no attribute 'no_such_thing'"
    assert job.output().count(f"hpcsynapse: {shown}\n") == 2
    assert "strategies/base.py" not in job.output()
    assert job.run.read_history()[-1]["reason"] == shown


MODEL = """
from torch import nn
from losses import distance

class UserModel(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

    def forward(self, inputs):
        return [super(UserModel, self).forward(part) for part in inputs["parts"]]

    def loss(self, output, target):
        return distance(output[0] + output[1], target["sum"])
"""
LOADER = """
import torch

class UserDataset:
    def __init__(self, data_path):
        self.scale = float(open(data_path + "/scale.txt").read())

    def __len__(self):
        return 64

    def __getitem__(self, index):
        part = torch.full((4,), self.scale * index)
        return {"parts": (part, [part][0])}, {"sum": part[:2]}
"""


def test_a_job_of_bksynapse_from_submission_to_its_end(workdir: Path) -> None:
    """Its config.json, folders that import their own modules, nested batches, no collate, no metrics."""
    for name, text in (
        ("m/bks_model.py", MODEL),
        ("l/bks_dataset.py", LOADER),
        ("m/losses.py", "def distance(a, b):\n    return (a - b).abs().mean()\n"),
        ("raw/scale.txt", "0.01"),
        ("val/scale.txt", "0"),
    ):
        (workdir / name).parent.mkdir(exist_ok=True)
        (workdir / name).write_text(text)
    config = {
        "model": "./m",
        "dataLoader": "./l",
        "dataset": "raw",
        "valDataset": "./val",
        "epochs": 2,
        "batchSize": 8,
        "optimizer": "rmsprop",
        "learningRate": 0.01,
        "nodes": [],
        "nodeType": "cpu",
        "gradNorm": 0.5,
    }
    (workdir / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "hpcsynapse", "submit", "config.json", "--scheduler", "local", "--ranks-per-node", "2",
         "--engine", "ddp", "--launcher", "local", "--name", "old", "--follow"],
        capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip  # a command line
    assert done.returncode == 0, done.stdout + done.stderr
    run = RunDirectory.find(workdir / "runs", "old")
    status = read_json(run.status)
    assert status is not None and (status["state"], status["step"]) == ("FINISHED", 8)
    assert status["lr"] == 0.02  # as there: the rate times the number of ranks
    assert status["metrics"].keys() == {"loss"}
    last = records.last_record(run.timings)
    assert last is not None and last["samples"] == 8
