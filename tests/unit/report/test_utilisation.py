"""Use of nodes over a run: sums, rates and curves of known amounts, beside what a strategy must send."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.files import write_json
from hpcsynapse.report.node_hours import causes
from hpcsynapse.report.node_tables import curves, node_tables
from hpcsynapse.report.node_use import NodeUse, node_use
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.telemetry import Column, TelemetryWriter, file_name
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.timing import StepRecorder

AMOUNTS = ("received_bytes", "received_packets", "sent_bytes", "sent_packets")
NAMES = (
    *("cpu_user", "cpu_system", "ranks_cpu", "ranks_memory", "samples"),
    *(f"net.eth0.{name}" for name in AMOUNTS),
    *(f"net.lo.{name}" for name in AMOUNTS),
    *("gpu.0.utilisation", "gpu.0.memory_used", "gpu.0.energy"),
)
INTERFACES = {"eth0": {"kind": "physical", "counted": True}, "lo": {"kind": "loopback", "counted": False}}
BEGIN, STEPS, SIZE = 1_000_000.0, 200, 4_000_000


def new_run(folder: Path, name: str, nodes: int = 2) -> RunDirectory:
    return RunDirectory.create(folder, JobSpec(name=name, resources=ResourceRequest(nodes=nodes)))


def node(run: RunDirectory, host: str, sent: float, received: float, seconds: int = 60, attempt: str = "1.0") -> None:
    """Write a node that sends and receives evenly over its time, and whose ranks use half of 4 cores."""
    run.telemetry.mkdir(exist_ok=True)
    told = {"host": host, "interval": 1.0, "cpus": 4, "memory_bytes": 8e9, "interfaces": INTERFACES, "attempt": attempt}
    told |= {"gpus": [{"memory_bytes": 80e9}], "started": BEGIN}
    columns = [Column(name, "<f4", "", "") for name in NAMES]
    writer = TelemetryWriter(run.telemetry / file_name(host, attempt), columns, told)
    for number in range(seconds):
        looked = number % 5 == 4
        network = (received / seconds, received / seconds / 1000, sent / seconds, sent / seconds / 1000)
        values = [2.0, 0.5, 10.0 if looked else None, 6e9 if looked else None, 64.0, *network, 9e9, 9e6, 9e9, 9e6]
        writer.add(BEGIN + 1 + number, 1.0, [*values, 80.0, 20e9, 300.0])
    writer.close()


def steps(run: RunDirectory, rank: int, host: str, strategy: str = "allreduce", ranks: int = 2, **told: object) -> None:
    with (
        mock.patch("socket.gethostname", lambda: host),
        mock.patch.dict("os.environ", {"WORLD_SIZE": str(ranks), "HPCSYNAPSE_ATTEMPT": "1.0"}),
        StepRecorder(
            run.timings, rank=rank, warmup=2, strategy=strategy, engine="ddp", gradient_bytes=SIZE, steps_per_epoch=100,
            global_batch=64,
            **{"started": BEGIN + 5, **told},
        ) as recorder,
    ):  # fmt: skip  # a long call
        for step in range(STEPS):
            recorder.write(step, step // 100, BEGIN + 10 + 0.2 * step, 0.02, 0.05, 0.07, 0.04, 0.01, 0.2, 32, 1.0)


def placed(run: RunDirectory, *hosts: str, servers: tuple[str, ...] = ()) -> None:
    ranks = [{"rank": rank, "host": host, "cpus": [0, 1, 2, 3]} for rank, host in enumerate(hosts)]
    write_json(run.placement, {"ranks": ranks})
    run.evidence("1.0").mkdir(parents=True)
    for index, host in enumerate(servers):
        write_json(run.evidence("1.0") / f"ps-{index:05d}.json", {"host": host, "task_index": index})


@pytest.fixture
def allreduce(tmp_path: Path) -> RunDirectory:
    """Two nodes of one rank each that send 5 % more than 2 (R-1)/R times the gradients of every step."""
    run = new_run(tmp_path, "ring")
    for rank, host in enumerate(("n1", "n2")):
        node(run, host, sent=1.05 * SIZE * STEPS, received=1.05 * SIZE * STEPS)
        steps(run, rank, host)
    placed(run, "n1", "n2")
    return run


@pytest.fixture
def served(tmp_path: Path) -> RunDirectory:
    """A server on a node of its own, and two workers."""
    run = new_run(tmp_path, "served", 3)
    for rank, host in enumerate(("n1", "n2")):
        node(run, host, sent=SIZE * STEPS, received=SIZE * STEPS)
        steps(run, rank, host, "ps-async")
    node(run, "n3", sent=2 * SIZE * STEPS, received=2 * SIZE * STEPS)
    placed(run, "n1", "n2", servers=("n3",))
    return run


def rows(*runs: RunDirectory) -> dict[tuple[str, str], NodeUse]:
    return {(one.run, one.node): one for one in node_use(runs)}


def test_what_a_node_used_and_sent_is_what_was_put_in(allreduce: RunDirectory) -> None:
    one = rows(allreduce)["ring", "n1"]
    assert (one.roles, one.seconds, one.cores, one.over) == ("rank 0", 60, 4, "eth0")
    assert [one.cores_used, one.cpu_efficiency, one.cpu] == pytest.approx([2.0, 0.5, 0.625])
    assert [one.memory_peak_gb, one.memory_limit_gb, one.memory_headroom] == pytest.approx([6, 8, 0.25])
    assert one.sent_mb == pytest.approx(1.05 * SIZE * STEPS / 1e6, rel=1e-5)
    assert one.sent_packets_s == pytest.approx(1.05 * SIZE * STEPS / 1000 / 60, rel=1e-5)
    assert [one.gpu_efficiency, one.gpu_headroom, one.energy_j] == pytest.approx([0.8, 0.75, 18000])
    assert one.joules_per_sample == pytest.approx(300 / 64)
    # 2 nodes of 60 s of 64 samples a second are 1.2 epochs of 6400
    assert one.joules_per_epoch == pytest.approx(18000 / 1.2)


def test_traffic_stands_beside_what_the_strategy_must_send(allreduce: RunDirectory, served: RunDirectory) -> None:
    found = rows(allreduce, served)
    assert found["ring", "n2"].predicted_sent_mb == pytest.approx(2 * (2 - 1) / 2 * SIZE * STEPS / 1e6)
    assert found["ring", "n2"].sent_of_predicted == pytest.approx(1.05, rel=1e-4)
    for host, factor in (("n1", 1), ("n3", 2)):
        assert found["served", host].predicted_sent_mb == pytest.approx(factor * SIZE * STEPS / 1e6)
        assert found["served", host].sent_of_predicted == pytest.approx(1.0, rel=1e-4)
    assert found["served", "n3"].roles == "ps 0"


def test_a_strategy_whose_traffic_is_not_known_has_no_prediction(tmp_path: Path) -> None:
    run = new_run(tmp_path, "local")
    node(run, "n1", 1.0, 1.0)
    steps(run, 0, "n1", "local-sgd+every8")
    assert next(iter(rows(run).values())).predicted_sent_mb is None


def test_two_runs_stand_on_one_axis_by_role(allreduce: RunDirectory, served: RunDirectory) -> None:
    found = {(one.run, one.role): one for run in (allreduce, served) for one in curves(run.name, node_tables(run))}
    assert set(found) == {("ring", "workers"), ("served", "workers"), ("served", "servers")}
    servers = found["served", "servers"]
    assert (servers.nodes, found["served", "workers"].nodes) == (1, 2)
    assert servers.time[0] == 2.5 and len(servers.time) == 12
    assert np.allclose(servers.values["sent_bytes"], 2 * SIZE * STEPS / 60 / 1e6)
    assert np.allclose(found["ring", "workers"].values["cores"], 2.0)
    assert np.allclose(servers.values["gpu"], 80.0)


def test_starts_follow_one_another_and_one_node_alone_counts_its_loopback(tmp_path: Path) -> None:
    run = new_run(tmp_path, "alone", 1)
    for attempt in ("1.0", "2.0"):
        node(run, "n1", 1e6, 1e6, attempt=attempt)
    steps(run, 0, "n1", "single", ranks=1)
    (one,) = node_use([run])
    assert (one.seconds, one.over, one.sent_mb) == (120, "lo", pytest.approx(120 * 9e3))


def test_node_hours_by_cause_add_up_to_the_allocation(allreduce: RunDirectory) -> None:
    released = {"exit_code": 0, "start": BEGIN, "time": BEGIN + 60, "attempt": "1.0"}
    write_json(allreduce.exit, released)
    allreduce.append_history("FINISHED")
    write_json(allreduce.status, {"state": "FINISHED", "attempt": "1.0"})
    found = {one.cause: one for one in causes([allreduce])}
    total = found.pop("total")
    assert sum(one.node_hours for one in found.values()) == pytest.approx(total.node_hours)
    assert total.node_hours == pytest.approx(2 * 60 / 3600, rel=1e-3)
    assert found["start-up"].node_hours == pytest.approx(2 * 10 / 3600, rel=1e-3)
    # A step of 200 ms: 130 compute, 20 input, 40 exchange, and both ranks are equally fast.
    useful = sum(found[name].node_hours for name in ("compute", "input", "exposed communication", "imbalance", "other"))
    shares = [found[name].node_hours / useful for name in ("compute", "input", "exposed communication", "imbalance")]
    assert shares == pytest.approx([0.65, 0.1, 0.2, 0.0], abs=0.005)


def test_the_command_writes_tables_and_a_plot(allreduce: RunDirectory, served: RunDirectory, tmp_path: Path) -> None:
    command = ["report", "utilisation", "--runs", str(tmp_path), "ring", "served"]
    done = CliRunner().invoke(cli, [*command, "--plots", str(tmp_path / "plots")])
    assert done.exit_code == 0, done.output
    assert "exposed communication" in done.output and "a step takes" not in done.output.splitlines()[0]
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".pdf", ".png", ".svg"}
    assert len(json.loads(CliRunner().invoke(cli, [*command, "--json"]).output)) == 5
    assert CliRunner().invoke(cli, [*command, "--causes", "--csv"]).output.startswith("run,cause,node_hours,share")


def test_the_page_of_the_scaling_report_has_plot_and_verdict(allreduce: RunDirectory, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = CliRunner().invoke(cli, ["report", "--runs", str(tmp_path), "ring", "--html", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "What to do next" in text and "GPUs ran kernels 80% of the time" in text
    assert "Use of nodes and network over time" in text


def test_a_run_without_telemetry_is_said(tmp_path: Path) -> None:
    run = new_run(tmp_path, "dark")
    steps(run, 0, "n1")
    with pytest.raises(HpcSynapseError, match="no node has recorded its load"):
        CliRunner().invoke(cli, ["report", "utilisation", "--runs", str(tmp_path), "dark"], catch_exceptions=False)
