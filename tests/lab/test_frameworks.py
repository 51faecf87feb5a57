"""Scripts of Accelerate and Lightning find the world that they expect, on two nodes with two ranks each."""

import re
import sys
from pathlib import Path

import pytest
from researcher import at_login

pytestmark = [pytest.mark.lab, pytest.mark.multiprocess]

EXAMPLES = Path(__file__).parents[2] / "examples"
PAIRS = [("accelerate", "torchrun"), ("lightning", "srun")]


@pytest.fixture(scope="module")
def trained(slurm_lab, tmp_path_factory):
    """All in the queue at once: most of their time is spent on imports."""
    user = at_login(slurm_lab, tmp_path_factory.mktemp("frameworks"))
    runs = {
        (package, launcher): user.submit(
            "--nodes",
            "2",
            "--ranks-per-node",
            "2",
            "--launcher",
            launcher,
            "--name",
            f"{package}-{launcher}",
            "--env",
            "EPOCHS=2",
            "--",
            sys.executable,
            str(EXAMPLES / f"{package}_script.py"),
        )
        for package, launcher in PAIRS
    }
    yield user, runs
    user.leave()


@pytest.mark.parametrize(("package", "launcher"), PAIRS)
def test_all_ranks_train_together(trained, package, launcher):
    user, runs = trained
    run = runs[package, launcher]
    status = user.finish(run, timeout=300)
    log = (run.path / "logs" / "rank-00000.log").read_text()
    assert status["exit_code"] == 0, log[-3000:]
    found = re.findall(r"epoch (\d): loss ([0-9.]+), (\d+) processes", log)
    assert [(epoch, processes) for epoch, _, processes in found] == [("0", "4"), ("1", "4")]
    assert float(found[1][1]) < 2.3
