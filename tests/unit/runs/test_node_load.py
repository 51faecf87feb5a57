"""The load of nodes is read from files alone, whoever's clock says what, for a thousand nodes at once."""

from __future__ import annotations

import json
import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.node_load import Look, NodeLoad
from hpcsynapse.runs.telemetry import Column, Telemetry, TelemetryWriter, file_name
from hpcsynapse.spec.job import JobSpec

NAMES = (
    *("cpu_user", "cpu_system", "memory_used", "ranks_cpu", "ranks_memory", "samples", "step_time", "own_slowest"),
    *("net.eth0.received_bytes", "net.eth0.sent_bytes", "net.eth0.received_packets", "net.eth0.sent_packets"),
    *("net.lo.received_bytes", "net.lo.sent_bytes", "net.lo.received_packets", "net.lo.sent_packets"),
    *("gpu.0.utilisation", "gpu.0.memory_used", "gpu.0.power", "gpu.1.utilisation", "gpu.1.memory_used"),
    "gpu.1.power",
)
COLUMNS = [Column(name, "<f4", "", "") for name in NAMES] + [Column("slowest_rank", "<i4", "", "")]
VALUES = dict(
    zip(NAMES, (1.0, 1.0, 4e9, None, None, 64.0, 0.25, 0.2, *range(8), 80.0, 1e9, 300.0, 40.0, 3e9, 200.0), strict=True)
)
INTERFACES = {"eth0": {"kind": "physical", "counted": True}, "lo": {"kind": "loopback", "counted": False}}


def node(
    run: RunDirectory, host: str, records: int = 20, *, attempt: str = "1.0", last: bool = False, **told: object
) -> TelemetryWriter:
    run.telemetry.mkdir(exist_ok=True)
    header = {"host": host, "attempt": attempt, "interval": 1.0, "started": time.time(), "cpus": 4, "memory_bytes": 8e9}
    header |= {"interfaces": INTERFACES, "gpus": [{"memory_bytes": 4e9}, {"memory_bytes": 4e9}], **told}
    writer = TelemetryWriter(run.telemetry / file_name(host, attempt), COLUMNS, header)
    for number in range(records):
        more = {"ranks_cpu": 10.0, "ranks_memory": 2e9} if number % 5 == 4 else {}
        writer.add(1000.0 + number, 1.0, [*(VALUES | more).values(), 3], last=last and number == records - 1)
    writer.flush()
    return writer


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, JobSpec(name="a"))


def look(run: RunDirectory, **how: float) -> dict[str, NodeLoad]:
    return {load.node: load for load in Look([run], **how).look(wait=True)}


def test_a_node_is_told_with_its_roles_and_rates(run: RunDirectory) -> None:
    node(run, "n1")
    write_json(run.placement, {"ranks": [{"rank": rank, "host": "n1"} for rank in (0, 1, 2, 5)]})
    run.evidence("1.0").mkdir(parents=True)
    write_json(run.evidence("1.0") / "ps-00000.json", {"task_index": 0, "host": "n1"})
    found = look(run)["n1"]
    assert (found.run, found.roles, found.state) == ("a", "rank 0-2 5, ps 0", "running")
    assert (found.cpu, found.memory, found.ranks_cpu, found.ranks_memory_bytes) == (0.5, 0.5, 2.0, 2e9)
    assert (found.received_mb_s, found.sent_packets_s) == (0.0, 3.0)  # of eth0, not of the loopback
    assert (found.gpus, found.gpu, found.gpu_memory, found.power_w) == (2, pytest.approx(0.6), 0.5, 500.0)
    assert (found.samples_s, found.step_s, found.slowest_rank) == (64.0, 0.25, 3)


def test_a_node_ends_with_its_last_record_or_with_its_job(run: RunDirectory) -> None:
    node(run, "in-order", last=True)
    node(run, "killed")
    node(run, "again", attempt="2.0")
    write_json(run.exit, {"exit_code": 1, "attempt": "1.0"})
    states = {name: load.state for name, load in look(run).items()}
    assert states == {"in-order": "ended", "killed": "ended", "again": "running"}


def test_of_several_starts_the_newest_is_shown(run: RunDirectory) -> None:
    node(run, "n1", 3)
    node(run, "n1", 7, attempt="2.0", started=time.time() + 5)
    assert look(run)["n1"].records == 7


def grows(writer: TelemetryWriter, over: threading.Event) -> None:
    while not over.wait(0.1):
        writer.add(1.0, 1.0, [*VALUES.values(), 3])
        writer.flush()


@pytest.mark.slow
def test_silence_is_told_by_growth_whatever_the_clocks_say(run: RunDirectory) -> None:
    skews = {"alive-behind": -3600.0, "alive-ahead": 3600.0, "dead-behind": -3600.0, "dead-ahead": 3600.0, "fresh": 0.0}
    writers = {name: node(run, name) for name in skews}
    by_path = {run.telemetry / file_name(name, "1.0"): skew for name, skew in skews.items()}
    over = threading.Event()
    threads = [
        threading.Thread(target=grows, args=(writer, over))
        for name, writer in writers.items()
        if name.startswith("alive")
    ]
    real = Telemetry.__init__

    def skewed(self: Telemetry, path: Path) -> None:
        real(self, path)
        self.modified += by_path[path]  # as by a node's clock, or a server's, that is wrong

    for thread in threads:
        thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Telemetry, "__init__", skewed)
            states = {name: load.state for name, load in look(run).items()}
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert {name for name, state in states.items() if state == "silent"} == {"dead-behind", "dead-ahead"}
    assert {state for name, state in states.items() if not name.startswith("dead")} == {"running"}


def test_who_stays_sees_what_does_not_grow(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    writers = [node(run, name) for name in ("n1", "n2")]
    now = [100.0]
    monkeypatch.setattr("hpcsynapse.runs.node_load.time.monotonic", lambda: now[0])
    looking = Look([run], silent=21)
    assert [load.state for load in looking.look(wait=False)] == ["running"] * 2
    now[0] += 22
    writers[0].add(1.0, 1.0, [*VALUES.values(), 3])
    writers[0].flush()
    assert [load.state for load in looking.look(wait=False)] == ["running", "silent"]
    writers[1].add(1.0, 1.0, [*VALUES.values(), 3])
    writers[1].flush()
    assert [load.state for load in looking.look(wait=False)] == ["running"] * 2


def test_a_thousand_nodes_are_read_with_little_memory_and_few_reads(run: RunDirectory) -> None:
    for number in range(1000):
        node(run, f"n{number:04d}", 3).close()
    tracemalloc.start()
    begin = time.process_time()
    loads = look(run)
    cpu, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{cpu:.2f} s of CPU under tracemalloc, {peak / 1e6:.0f} MB")
    assert len(loads) == 1000 and peak < 100e6


Invoke = Callable[..., str]


@pytest.fixture
def nodes(run: RunDirectory) -> Invoke:
    def call(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["nodes", "--runs", str(run.path.parent), *words])
        assert done.exit_code == code, done.output
        return done.output

    return call


def test_the_command_shows_bars_and_writes_csv_and_json(run: RunDirectory, nodes: Invoke) -> None:
    node(run, "n1", last=True)
    table = nodes("a")
    assert "████░░░░  50%" in table and "3 (200.0 ms)" in table and "RUN" not in table
    (row,) = json.loads(nodes("a", "--json"))
    assert (row["node"], row["cpu"], row["power_w"]) == ("n1", 0.5, 500.0)
    assert nodes("a", "--csv").splitlines()[0].startswith("run,node,roles,state,cpu")


def test_staying_ends_with_the_run(run: RunDirectory, nodes: Invoke) -> None:
    node(run, "n1", last=True)
    assert "ended" in nodes("a", "-w")


def test_without_a_name_runs_at_work_are_shown(run: RunDirectory, tmp_path: Path) -> None:
    other = RunDirectory.create(tmp_path, JobSpec(name="b"))
    node(run, "n1")
    node(other, "n2")
    write_json(other.exit, {"exit_code": 0, "attempt": "1.0"})
    shown = CliRunner().invoke(cli, ["nodes", "--runs", str(tmp_path)]).output
    assert "n1" in shown and "n2" not in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a"], "no node has recorded anything yet"),
        ([], "no node of a run at work"),
        (["b"], "no run 'b'"),
        (["--daemon", "a"], "takes no run"),
        (["a", "-w", "--json"], "--watch shows a table"),
    ],
)
def test_what_cannot_be_shown_is_said(run: RunDirectory, words: list[str], says: str) -> None:
    from hpcsynapse.errors import HpcSynapseError

    with pytest.raises(HpcSynapseError, match=says):
        CliRunner().invoke(cli, ["nodes", "--runs", str(run.path.parent), *words], catch_exceptions=False)


def test_a_machine_outside_of_jobs_is_recorded_until_told_to_end(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys

    command = [sys.executable, "-m", "hpcsynapse", "nodes", "--daemon", "--sample", "0.1", "--runs", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as daemon:
        folder, end = tmp_path / ".nodes", time.monotonic() + 60
        while not list(folder.glob("*.telemetry")):
            assert daemon.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        shown = CliRunner().invoke(cli, ["nodes", "--runs", str(tmp_path)]).output
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    (load,) = Look([], folder).look(wait=False)
    assert load.node in shown and "running" in shown
    assert (load.state, load.run, load.ranks_cpu) == ("ended", "", None) and load.memory is not None
    assert load.node == os.uname().nodename
