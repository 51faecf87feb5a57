"""Requests that the cluster cannot meet are refused before anything is written, in the queue's own words."""

import json

import pytest

pytestmark = pytest.mark.lab

IMPOSSIBLE = {
    "five nodes": (["--nodes", "5"], "Node count specification invalid"),
    "eight GPUs": (["--gpus", "8"], "Requested node configuration is not available"),
    "two hours where two minutes are allowed": (["--partition", "short", "--time", "2h"], "time limit is invalid"),
    "an unknown partition": (["--partition", "nowhere"], "invalid partition specified: nowhere"),
    "an unknown feature": (["--constraint", "teapot"], "Invalid feature specification"),
}


@pytest.mark.parametrize(("options", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_check_and_submit_refuse(user, options, words):
    checked = user.attempt("check", *options, "--", "true")
    assert checked.returncode == 2
    assert words.lower() in checked.stdout.lower()
    assert not (user.folder / "runs").exists()

    done = user.attempt("submit", *options, "--name", "no", "--", "true")
    assert done.returncode == 1
    assert words.lower() in done.stderr.lower()
    status = json.loads(user.hpcsynapse("status", "--json", "no"))[0]
    assert status["state"] == "FAILED"
    assert words.lower() in status["reason"].lower()
    assert user.lab.run("squeue", "--noheader", "--name=no") == ""


def test_a_possible_request_is_accepted_and_not_submitted(user):
    printed = user.hpcsynapse("check", "--nodes", "4", "--gpus", "4")
    assert "slurm accepts it" in printed
    assert "engine: auto would take horovod" in printed
    assert not (user.folder / "runs").exists()
