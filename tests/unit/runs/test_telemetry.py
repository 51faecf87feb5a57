"""Telemetry files survive what happens to them, and tell of themselves what they hold."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsynapse.errors import RecordError
from hpcsynapse.runs.telemetry import LAST, Column, Telemetry, TelemetryWriter, file_name, telemetry

COLUMNS = (
    Column("cpu_user", "<f4", "s", "CPU time"),
    Column("clock", "<f2", "MHz", "clock"),
    Column("step", "<u4", "", "newest step"),
)


def write(folder: Path, host: str = "n1", records: int = 3, **told: object) -> Path:
    path = folder / file_name(host, "7.0")
    writer = TelemetryWriter(path, COLUMNS, {"host": host, "interval": 1.0, "started": 50.0, **told})
    for number in range(records):
        writer.add(100.0 + number, 1.0, (0.25 * number, 1980.0, number), last=number == records - 1)
    writer.close()
    return path


def test_a_file_can_be_read_without_the_package(tmp_path: Path) -> None:
    line, body = write(tmp_path).read_bytes().split(b"\n", 1)
    header = json.loads(line)
    found = np.frombuffer(body, [(name, kind) for name, kind, _, _ in header["columns"]])
    assert found.dtype.itemsize == header["record_size"]
    assert found["cpu_user"].tolist() == [0.0, 0.25, 0.5] and found["time"].tolist() == [100.0, 101.0, 102.0]
    assert found["flags"].tolist() == [0, 0, LAST] and found["clock"].tolist() == [1980.0] * 3


def test_records_come_back_and_what_is_not_known_is_nan(tmp_path: Path) -> None:
    path = tmp_path / file_name("n1", "0")
    writer = TelemetryWriter(path, COLUMNS, {"host": "n1", "missing": {"gpu": "none"}})
    writer.add(1.0, 0.5, (None, math.inf, None))
    writer.add(2.0, 1.0, (1e60, 1e9, 1e12))  # larger than the columns hold
    writer.close()
    found = Telemetry(path)
    first, second = found.records()
    assert math.isnan(first["cpu_user"]) and math.isnan(first["clock"]) and first["step"] == 0
    assert (second["seq"], second["time"], second["clock"], second["step"]) == (1, 2.0, 65504.0, 0xFFFFFFFF)
    assert found.newest() == second and found.missing == {"gpu": "none"} and found.host == "n1"


def test_one_writer_a_file(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(FileExistsError):
        write(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2000))
def test_a_file_cut_anywhere_is_read_up_to_its_last_whole_record(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = write(tmp_path_factory.mktemp("cut"))
    data = path.read_bytes()
    path.write_bytes(data[: min(cut, len(data))])
    left = min(cut, len(data)) - data.index(b"\n") - 1
    found = telemetry(path.parent)
    assert [one.count for one in found] == ([] if left < 0 else [left // 28])
    assert all([record["seq"] for record in one.records()] == list(range(one.count)) for one in found)


def test_zeros_that_a_crash_left_are_no_records(tmp_path: Path) -> None:
    path = write(tmp_path)
    with path.open("ab") as file:
        file.write(bytes(28 * 20))
    assert [record["seq"] for record in Telemetry(path).records()] == [0, 1, 2]
    assert (newest := Telemetry(path).newest()) is not None and newest["seq"] == 2


def test_what_is_not_telemetry_is_passed_over_and_named(tmp_path: Path) -> None:
    write(tmp_path, "n2", node_rank=1)
    write(tmp_path, "n9", node_rank=0)
    for name, text in {"a": "", "b": "{}\n", "c": "[1]\n", "d": "{" * 9000 + "\n", "e": "\xff"}.items():
        (tmp_path / f"{name}.telemetry").write_text(text, encoding="latin-1")
    assert [one.host for one in telemetry(tmp_path)] == ["n9", "n2"]
    with pytest.raises(RecordError, match=r"b\.telemetry"):
        Telemetry(tmp_path / "b.telemetry")
    assert telemetry(tmp_path / "absent") == []


def test_a_disk_that_is_full_for_a_while_loses_the_oldest_only(tmp_path: Path) -> None:
    path = tmp_path / file_name("n1", "0")
    writer = TelemetryWriter(path, COLUMNS, {})
    real, allowed = os.write, [10]  # the first record is torn

    def limited(descriptor: int, data: bytes) -> int:
        if not allowed[0]:
            raise OSError(28, "No space left on device")
        part = data[: allowed[0]]
        allowed[0] -= len(part)
        return real(descriptor, part)

    with mock.patch("os.write", limited):
        for number in range(1000):
            writer.add(float(number), 1.0, (0.0, 0.0, number))
            if number == 5:
                with pytest.raises(OSError, match="No space"):
                    writer.flush()
    writer.close()
    numbers = [int(record["seq"]) for record in Telemetry(path).records()]
    assert numbers[0] == 0 and numbers[-1] == 999 and len(numbers) >= 599
    assert all(record["step"] == record["seq"] for record in Telemetry(path).records())


def test_killed_at_any_instant_it_leaves_whole_records(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from hpcsynapse.runs.telemetry import *\n"
        "writer = TelemetryWriter(Path(sys.argv[1]), [Column('x', '<f4', '', '')] * 40, {'host': 'n'})\n"
        "print('ready', flush=True)\n"
        "while True: writer.add(1.0, 1.0, [1.0] * 40); writer.flush()\n"
    )
    path = tmp_path / file_name("n", "0")
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    while Telemetry(path).count < 500:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.communicate()
    found = Telemetry(path)
    assert [record["seq"] for record in found.records()] == list(range(found.count))
