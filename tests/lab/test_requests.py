"""Requests that the cluster cannot meet are refused before anything is written, in the queue's own words."""

import json

import pytest

pytestmark = pytest.mark.lab

# What is impossible, Slurm's words, and what hpcsynapse says of what there is.
IMPOSSIBLE = {
    "five nodes": (["--nodes", "5"], "Node count specification invalid", "partition debug ("),
    "eight GPUs": (["--gpus", "8"], "Requested node configuration is not available", "partition debug ("),
    "two hours where two minutes are allowed": (
        ["--partition", "short", "--time", "2h"],
        "time limit is invalid",
        "partition short (00:02:00",
    ),
    "an unknown partition": (
        ["--partition", "nowhere"],
        "invalid partition specified: nowhere",
        "partitions here: debug (default",
    ),
    "an unknown feature": (["--constraint", "teapot"], "Invalid feature specification", "leave --constraint out"),
}


@pytest.mark.parametrize(("options", "words", "instead"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_check_and_submit_refuse(user, options, words, instead):
    checked = user.attempt("check", *options, "--", "true")
    assert checked.returncode == 2
    assert words.lower() in checked.stdout.lower()
    assert instead in checked.stdout
    assert not (user.folder / "runs").exists()

    done = user.attempt("submit", *options, "--name", "no", "--", "true")
    assert done.returncode == 1
    assert words.lower() in done.stderr.lower() and instead in done.stderr
    status = json.loads(user.hpcsynapse("status", "--json", "no"))[0]
    assert status["state"] == "FAILED"
    assert words.lower() in status["reason"].lower()
    assert user.lab.run("squeue", "--noheader", "--name=no") == ""


@pytest.mark.horovod
def test_a_possible_request_is_accepted_and_not_submitted(user):
    printed = user.hpcsynapse("check", "--nodes", "4", "--gpus", "4")
    assert "slurm accepts it" in printed
    assert "engine: auto would take horovod" in printed
    assert not (user.folder / "runs").exists()
