"""A script that knows nothing of hpcsynapse, as a study through a real queue: its report has rates and speedup."""

import json
import re
import shlex
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.multiprocess]

PAGE = Path(__file__).parents[2] / "docs" / "recording.md"
SCRIPT = """
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

dist.init_process_group("gloo")
torch.manual_seed(0)
data = TensorDataset(torch.randn(3200, 16), torch.randint(0, 4, (3200,)))
model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(data, batch_size=16, sampler=DistributedSampler(data), drop_last=True)
made = 0
while made < 50:
    for inputs, targets in loader:
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        time.sleep(0.01)
        optimizer.step()
        made += 1
        if made == 50:
            break
dist.barrier()
dist.destroy_process_group()
"""


def test_the_study_of_the_documentation_is_reported_though_the_script_knows_nothing(user):
    user.script("train.py", SCRIPT)
    study, status, report = re.search(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)[1].splitlines()
    done = user.attempt(*shlex.split(study.replace("study", "study --follow", 1))[1:], timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(user.hpcsynapse(*shlex.split(report)[1:], "--json"))
    assert [(row["nodes"], row["ranks"], row["engine"]) for row in rows] == [(1, 2, "ddp"), (2, 4, "ddp")]
    assert all(row["steps"] + row["warmup_steps"] == 50 for row in rows)
    assert all(row["throughput"] > 0 and row["speedup"] > 0 for row in rows)
    told = json.loads(user.hpcsynapse(*shlex.split(status)[1:], "--json"))
    assert [(one["progress"]["step"], one["progress"]["steps_per_s"] > 0) for one in told] == [(50, True)] * 2
