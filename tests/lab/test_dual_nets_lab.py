"""The two halves of a network on two nodes of a real queue, which exchange files on the shared folder, or messages."""

import csv

import pytest

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("exchange", ["files", "engine"])
def test_the_halves_run_on_two_nodes(user, exchange):
    run, done = user.follow(
        "--strategy", "admm", "--nodes", "2", "--model", "dualnet", "--data", "cluttered-digits", "--batch", "50",
        "--steps", "20", "--optimizer", "adam", "--lr", "0.002", "--dual-exchange", exchange, "--time", "3m",
        "--name", f"halves-{exchange}",
    )  # fmt: skip  # a command line
    assert done.returncode == 0, done.stdout + done.stderr
    placement = run.file("placement.json")
    assert len({rank["host"] for rank in placement["ranks"]}) == 2
    assert sorted(path.name for path in (run.path / "dual").iterdir()) == ["rank-0.json", "rank-1.json"]

    (row,) = csv.DictReader(user.hpcsynapse("report", "dual", "--csv", run.name).splitlines())
    assert (row["exchanges"], row["transport"], row["cut"]) == ("20", exchange, "pool2")
    assert float(row["bytes_forward"]) == float(row["bytes_back"]) == 50 * 16 * 7 * 7 * 4
    assert row["verdict"] == "" and float(row["net2_loss"]) > 0 and 0 < float(row["accuracy"]) < 1
