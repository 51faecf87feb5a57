"""The report on classes: rows, forms, its matrix for few classes, and what has none."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.report import command as report
from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.report.confusion import COLUMNS
from hpcsynapse.runs.class_counts import ClassCounts

CAT_DOG = ClassCounts.of_matrix([[8, 1, 0], [2, 9, 0], [0, 0, 0]], names=("cat", "dog", "cow"))


@pytest.fixture
def call(tmp_path, make_directory):
    for name, counts in (("pets", CAT_DOG), ("many", many(300))):
        make_directory(name, 1, 0.1).write_class_counts(10, 1, 320, counts)
    make_directory("none", 1, 0.1)
    environ = {"HPCSYNAPSE_RUNS": str(tmp_path / "runs")}
    return lambda *words: CliRunner().invoke(report, ["confusion", *map(str, words)], env=environ)


def many(classes):
    """Counts of many classes: one of ten samples is wrong, of the last class all."""
    correct = [9] * (classes - 1) + [0]
    return ClassCounts([10] * classes, [10] * classes, correct, within_top=10 * classes)


def test_few_classes_have_their_matrix(call):
    rows = list(csv.DictReader(io.StringIO(call("pets", "--csv").stdout)))
    assert list(rows[0]) == ["run", "class_name", "true cat", "true dog", "true cow", *list(COLUMNS)[2:]]
    assert [[row[f"true {name}"] for name in ("cat", "dog", "cow")] for row in rows] == [
        ["8", "1", "0"],
        ["2", "9", "0"],
        ["0", "0", "0"],
    ]
    assert [(row["samples"], row["predicted"], row["error"]) for row in rows] == [
        ("10", "9", repr(1 - 0.8)),
        ("10", "11", repr(1 - 0.9)),
        ("0", "0", ""),
    ]
    assert "20.0%" in call("pets").stdout
    assert json.loads(call("pets", "--json").stdout)[2]["error"] is None


def test_many_classes_and_unlike_ones_have_errors_alone(call):
    rows = list(csv.DictReader(io.StringIO(call("many", "--csv").stdout)))
    assert list(rows[0]) == list(COLUMNS)
    assert (len(rows), rows[0]["error"], rows[-1]["error"]) == (300, repr(1 - 0.9), "1.0")
    both = list(csv.DictReader(io.StringIO(call("pets", "many", "--csv").stdout)))
    assert list(both[0]) == list(COLUMNS)
    assert len(both) == 303


def test_published_classes_stand_alone_or_below(call):
    alone = call("--against", "minotauro", "--csv")
    rows = list(csv.DictReader(io.StringIO(alone.stdout)))
    assert (len(rows), rows[3]["class_name"], rows[3]["true dog"]) == (10, "cat", "89")
    assert "Image Recognition with Deep Learning" in alone.stderr
    both = list(csv.DictReader(io.StringIO(call("pets", "--against", "minotauro", "--csv").stdout)))
    assert [row["run"] for row in both] == ["pets"] * 3 + ["minotauro"] * 10


@pytest.mark.slow
def test_plots_of_few_and_of_many_classes(call, tmp_path):
    for name, title in (("pets", "Confusion matrix"), ("many", "Error by class")):
        assert call(name, "--plots", tmp_path / name).exit_code == 0
        assert (tmp_path / name / "confusion.png").read_bytes().startswith(b"\x89PNG")
        assert title in (tmp_path / name / "confusion.svg").read_text()


def test_what_has_no_counts_is_named(call, tmp_path):
    assert isinstance(call("none").exception, RecordError)
    assert "no counts by class in class_counts.json" in str(call("none").exception)
    (tmp_path / "runs" / "pets" / "class_counts.json").write_text('{"matrix": [[1, 2]]}')
    assert isinstance(call("pets").exception, RecordError)
    assert isinstance(call(tmp_path / "runs" / "many" / "timings").exception, SpecError)
    assert isinstance(call("many", "--against", "horovod").exception, SpecError)
    assert call().exit_code == 2
