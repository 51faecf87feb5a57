"""What was sampled on nodes is exported too: means over stretches of time, and the newest values."""

from __future__ import annotations

import pytest

from hpcsynapse.export.node_load import node_scalars
from hpcsynapse.export.openmetrics import openmetrics
from hpcsynapse.export.scalars import scalars_of
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.runs.telemetry import Column, TelemetryWriter
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.status import RunStatus

COLUMNS = [
    Column("cpu_user", "<f4", "s", 'CPU "time"\n'),
    Column("net.eth0.sent_bytes", "<f4", "B", "sent by the interface eth0"),
    Column("net.ib.0.sent_bytes", "<f4", "B", "sent by the interface ib.0"),
    Column("step", "<u4", "", "newest step"),
]
T0 = 1.75e9


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path, JobSpec(name="run"))


def sample(run, node, values, attempt="0", last=True, started=T0):
    """Write one file: cpu_user is each value, one a second from `started` on."""
    run.telemetry.mkdir(exist_ok=True)
    about = {"node_rank": node, "host": f"n{node}", "started": started}
    writer = TelemetryWriter(run.telemetry / f"n{node}.{attempt}.telemetry", COLUMNS, about)
    for number, value in enumerate(values):
        ended = last and number == len(values) - 1
        writer.add(started + number, 1.0, [value, 7.0, 10.0 * number, number], last=ended)
        writer.flush()
    writer.close()


def found(run):
    return {
        one.name: list(zip(one.steps.tolist(), one.values.tolist(), strict=True)) for one in node_scalars(run.telemetry)
    }


def test_means_of_ten_seconds_by_node(run) -> None:
    sample(run, 0, [1.0] * 10 + [3.0] * 5 + [None] * 5 + [5.0] * 2)
    sample(run, 1, [0.5, 1.5])
    assert found(run) == {
        "node-0/cpu_user": [(0, 1.0), (10, 3.0), (20, 5.0)],
        "node-0/net.ib.0.sent_bytes": [(0, 45.0), (10, 145.0), (20, 205.0)],
        "node-1/cpu_user": [(0, 1.0)],
        "node-1/net.ib.0.sent_bytes": [(0, 5.0)],
    }
    assert {one.name for one in scalars_of(run)} == set(found(run))  # a run without a step has them too


def test_a_stretch_that_may_still_grow_is_left_out_and_long_runs_have_minutes(run) -> None:
    sample(run, 0, [1.0] * 10 + [3.0] * 5, last=False)
    assert found(run)["node-0/cpu_user"] == [(0, 1.0)]
    sample(run, 2, [float(number % 2) for number in range(3700)])
    assert [step for step, _ in found(run)["node-2/cpu_user"]][:3] == [0, 60, 120]


def test_the_newest_values_of_every_node_are_in_openmetrics(run) -> None:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    sample(run, 0, [1.0, 2.0])
    sample(run, 0, [4.0, 8.0], attempt="1", started=T0 + 100)
    sample(run, 1, [None])
    text = openmetrics([RunStatus(name="r", path=str(run.path), state=RunState.TRAINING)])
    values = {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels) if key != "run")): sample.value
        for family in parser.text_string_to_metric_families(text)
        if family.name.startswith("hpcsynapse_node_")
        for sample in family.samples
    }
    assert values == {
        ("hpcsynapse_node_cpu_user", "n0", "0"): 8,
        ("hpcsynapse_node_net_sent_bytes", "n0", "eth0", "0"): 7,
        ("hpcsynapse_node_net_sent_bytes", "n0", "ib.0", "0"): 10,
        ("hpcsynapse_node_net_sent_bytes", "n1", "eth0", "1"): 7,
        ("hpcsynapse_node_net_sent_bytes", "n1", "ib.0", "1"): 0,
    }
