"""The verbs report and records as people and programs call them."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import hpcsynapse
from hpcsynapse.cli.records import command as records
from hpcsynapse.cli.report import command as report
from hpcsynapse.errors import RecordError, RunNotFoundError, SpecError
from hpcsynapse.report.points import COLUMNS

RECORD_COLUMNS = [
    "rank", "host", "attempt", "step", "epoch", "start", "data", "forward", "backward", "communicate", "update",
    "total", "samples", "loss", "staleness", "flags", "sent", "received", "pause",
]  # fmt: skip  # a table


@pytest.fixture
def call(tmp_path, make_directory):
    make_directory("one", 1, 0.1, strategy="single", engine="none", start=5000.0)
    make_directory("two", 2, 0.1 / 0.9, start=5000.0)
    environ = {"HPCSYNAPSE_RUNS": str(tmp_path / "runs")}

    def invoke(command, *words):
        return CliRunner().invoke(command, [str(word) for word in words], env=environ)

    return invoke


def test_report_as_csv_prints_nothing_else(call):
    result = call(report, "one", "two", "--csv")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(rows[0]) == list(COLUMNS)
    assert float(rows[1]["efficiency"]) == pytest.approx(0.9)


def test_report_as_json_markdown_and_text(call):
    assert json.loads(call(report, "two", "one", "--json").stdout)[1]["efficiency"] == pytest.approx(0.9)
    assert call(report, "one", "two", "--markdown").stdout.startswith("| strategy |")
    text = call(report, "one", "two").stdout
    assert "90.0%" in text
    assert "1.80x" in text


@pytest.mark.parametrize(
    ("name", "begin"), [("a.csv", "strategy,"), ("a.json", "["), ("a.md", "| "), ("a.tex", "% needs ")]
)
def test_report_into_a_file(call, tmp_path, name, begin):
    result = call(report, "one", "two", "--out", tmp_path / name)
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / name).read_text().startswith(begin)


def test_warnings_go_to_stderr(call, make_directory):
    make_directory("other", 2, 0.2, optimizer="adam", start=5000.0)
    result = call(report, "one", "two", "other", "--csv")
    assert "different optimizer" in result.stderr
    assert "warning" not in result.stdout


def test_report_errors(call, tmp_path):
    assert isinstance(call(report, "thre").exception, RunNotFoundError)
    assert isinstance(call(report, "one", "--out", tmp_path / "no" / "file.csv").exception, SpecError)
    assert isinstance(call(report, "one", "table.csv").exception, SpecError)
    assert call(report).exit_code == 2


def test_a_table_is_reported_alone(call, tmp_path):
    (tmp_path / "t.csv").write_text("gpus,images_per_s\n1,100\n512,46080\n")
    rows = list(csv.DictReader(io.StringIO(call(report, tmp_path / "t.csv", "--csv").stdout)))
    assert [float(row["efficiency"]) for row in rows] == [1.0, 0.9]


def test_a_run_named_twice_is_one_repeat(call):
    assert json.loads(call(report, "one", "one", "--json").stdout)[0]["repeats"] == 1


def test_records_as_csv(call):
    result = call(records, "two", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(rows[0]) == RECORD_COLUMNS
    assert len(rows) == 400
    assert {row["rank"] for row in rows} == {"0", "1"}
    assert rows[0]["loss"] == "0.5"
    assert len(call(records, "two", "--csv", "--rank", 1).stdout.splitlines()) == 201


def test_records_as_json_and_text(call):
    found = json.loads(call(records, "two", "--json", "--rank", 0).stdout)
    assert list(found[0]) == RECORD_COLUMNS
    assert found[3]["step"] == 3
    assert call(records, "one").stdout.splitlines()[0].split() == RECORD_COLUMNS


def test_an_unknown_loss_is_empty(call, rank_writer, tmp_path):
    path = rank_writer(tmp_path / "bare", 0, 1, [0.1])
    body = path.read_bytes()
    path.write_bytes(body[:-28] + b"\x00\x00\xc0\x7f" + body[-24:])
    assert json.loads(call(records, path.parent, "--json").stdout)[0]["loss"] is None
    assert next(csv.DictReader(io.StringIO(call(records, path.parent, "--csv").stdout)))["loss"] == ""


def test_records_errors(call):
    assert isinstance(call(records, "two", "--rank", 2).exception, RecordError)
    assert isinstance(call(records, "thre").exception, RunNotFoundError)


def test_a_reader_that_leaves_early_is_no_error(call, tmp_path):
    code = "from hpcsynapse.cli.records import command; command()"
    environ = {**os.environ, "PYTHONPATH": str(Path(hpcsynapse.__file__).parent.parent)}
    words = [sys.executable, "-c", code, "two", "--runs", str(tmp_path / "runs"), "--csv"]
    program = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ)
    program.stdout.readline()
    program.stdout.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait() == 0


def test_the_commands_load_no_numpy_before_they_run():
    code = "import sys, hpcsynapse.cli.report, hpcsynapse.cli.records; sys.exit('numpy' in sys.modules)"
    environ = {**os.environ, "PYTHONPATH": str(Path(hpcsynapse.__file__).parent.parent)}
    assert subprocess.run([sys.executable, "-c", code], env=environ, check=False).returncode == 0
