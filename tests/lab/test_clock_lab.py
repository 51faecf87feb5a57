"""Clocks of the nodes of a real job are measured over its own network; all nodes have one clock, so the truth is 0."""

import json

import pytest
from trace_reading import read_chrome

from hpcsynapse.runs.clocks import read_clocks
from hpcsynapse.runs.directory import RunDirectory

pytestmark = pytest.mark.lab

TRAIN = ("--model", "simple-cnn", "--data", "digits", "--batch", "16", "--threads", "1", "--steps", "30")


def finished(user, name, *options):
    run = user.submit("--name", name, *TRAIN, "--engine", "ddp", "--time", "3m", *options)
    user.finish(run)
    return RunDirectory(run.path)


def test_clocks_of_a_job_are_measured_and_its_timeline_is_corrected(user, tmp_path):
    run = finished(user, "two", "--nodes", "2")
    clocks = read_clocks(run.timings)
    ((attempt, reference),) = clocks.references.items()
    (path,) = run.timings.glob("*.clock")
    host = json.loads(path.read_text().splitlines()[0])["host"]
    assert host != reference
    points = clocks.of(attempt, host).points
    assert len(points) >= 2  # at the begin and at the end
    assert all(abs(one.offset) <= one.bound + 1e-6 for one in points)
    user.hpcsynapse("timeline", "two", "-o", str(tmp_path / "t.json"))
    names = {one["args"]["name"] for one in read_chrome(tmp_path / "t.json") if one["name"] == "process_name"}
    assert f"node 0 {reference}" in names
    assert [name for name in names if name.startswith(f"node 1 {host}, within ")]


def test_a_job_of_one_node_measures_nothing(user):
    run = finished(user, "one")
    assert not list(run.timings.glob("*.clock")) and not run.secret.exists()
