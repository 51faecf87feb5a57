"""Every launcher with every engine it can carry really trains the digits on two nodes."""

import csv
import json

import pytest
from researcher import at_login

pytestmark = [pytest.mark.lab, pytest.mark.multiprocess, pytest.mark.horovod]

PAIRS = [("srun", "ddp"), ("mpirun", "horovod"), ("mpirun", "mpi"), ("srun", "horovod"), ("torchrun", "ddp")]


@pytest.fixture(scope="module")
def trained(slurm_lab, tmp_path_factory):
    """One run a pair, all in the queue at once: most of their time is spent on starting up."""
    user = at_login(slurm_lab, tmp_path_factory.mktemp("launchers"))
    runs = {
        (launcher, engine): user.submit(
            "--nodes",
            "2",
            "--launcher",
            launcher,
            "--engine",
            engine,
            "--data",
            "digits",
            "--epochs",
            "1",
            "--seed",
            "3",
            "--name",
            f"{launcher}-{engine}",
        )
        for launcher, engine in PAIRS
    }
    yield user, runs
    user.leave()


@pytest.mark.parametrize(("launcher", "engine"), PAIRS)
def test_digits_are_trained_on_two_nodes(slurm_lab, trained, launcher, engine):
    user, runs = trained
    run = runs[launcher, engine]
    status = user.finish(run, timeout=300)
    progress = status["progress"]
    assert status["exit_code"] == 0
    assert (progress["engine"], progress["strategy"], progress["epoch"]) == (engine, "allreduce", 1)
    assert progress["step"] == progress["steps"] == progress["steps_per_epoch"]
    assert progress["metrics"]["accuracy"] > 0.5
    placement = run.file("placement.json")
    assert placement["verified"]
    assert len({one["host"] for one in placement["ranks"]}) == 2
    table = user.hpcsynapse("records", str(run.path), "--csv").splitlines()
    steps = [row["rank"] for row in csv.DictReader(table) if not row["pause"]]
    assert {name: steps.count(name) for name in set(steps)} == {"0": progress["steps"], "1": progress["steps"]}
    files = sorted(path.name for path in (run.path / "timings").iterdir())
    assert [name for name in files if not name.endswith(".clock")] == ["merged.steps"]
    assert sum(name.endswith(".clock") for name in files) <= 1  # of the second node; the first is the reference
    assert list((run.path / "checkpoints").glob("*.pt"))


def test_engines_agree_and_are_reported(trained):
    user, runs = trained
    for run in runs.values():
        user.finish(run, timeout=300)
    losses = [user.status(run)["progress"]["metrics"]["loss"] for run in runs.values()]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-3)
    rows = json.loads(user.hpcsynapse("report", "--json", *(str(run.path) for run in runs.values())))
    points = rows if isinstance(rows, list) else rows["points"]
    assert {point["engine"] for point in points} == {"ddp", "horovod", "mpi"}
    assert all(point["nodes"] == 2 and point["ranks"] == 2 for point in points)
