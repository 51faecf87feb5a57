"""Bytes per node and direction, summed over what ranks and servers recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.report import command
from hpcsynapse.errors import RecordError
from hpcsynapse.report.traffic import COLUMNS, traffic
from hpcsynapse.timing import StepRecorder


def write(folder: Path, role: str, number: int, host: str, exchanged: list[tuple[int, int]]) -> None:
    recorder = StepRecorder(folder, rank=number, role=role, warmup=0, host=host, strategy="ps-async", nodes=2)
    for step, (sent, received) in enumerate(exchanged):
        recorder.write(step, 0, 100.0 + step, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 32, 1.0, sent=sent, received=received)
    recorder.close()


def test_ranks_and_servers_of_a_host_are_added_up(tmp_path: Path) -> None:
    write(tmp_path, "worker", 0, "a", [(10_000_000, 1), (0, 0), (20_000_000, 2)])
    write(tmp_path, "worker", 1, "b", [(0, 0), (5_000_000, 7_000_000)])
    write(tmp_path, "ps", 0, "b", [(1_000_000, 3_000_000)])
    first, second = traffic([tmp_path])
    assert (first.host, first.processes, second.host, second.processes) == ("a", "rank 0", "b", "ps 0 rank 1")
    assert first.seconds == second.seconds == pytest.approx(2.5)
    assert (first.sent_mb, second.sent_mb, second.received_mb) == (30.0, 6.0, 10.0)
    assert second.received_mb_s == pytest.approx(4.0)
    assert first.sent_bytes_per_sample == pytest.approx(30e6 / (5 * 32))  # servers train on no samples


def test_servers_alone_are_no_run(tmp_path: Path) -> None:
    write(tmp_path, "ps", 0, "b", [(1, 3)])
    with pytest.raises(RecordError, match="no step records"):
        traffic([tmp_path])


def test_the_command(tmp_path: Path) -> None:
    write(tmp_path, "worker", 0, "a", [(1_500_000, 0)])
    done = CliRunner().invoke(command, ["traffic", str(tmp_path), "--json"])
    assert list(json.loads(done.stdout)[0]) == list(COLUMNS)
    assert "rank 0" in CliRunner().invoke(command, ["traffic", str(tmp_path)]).stdout
