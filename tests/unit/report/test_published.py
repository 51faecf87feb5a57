"""Published figures are shipped with their sources, and stand beside one's own."""

import csv
import io

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.report import command as report
from hpcsynapse.errors import SpecError
from hpcsynapse.report.points import COLUMNS
from hpcsynapse.report.published import names, published


def figures(name, column="speedup"):
    return [(row.strategy, row.model, row.ranks, getattr(row, column)) for row in published(name)[1]]


def test_bk_synapse():
    rows = published("bk-synapse")[1]
    assert [row.epoch_time_s for row in rows] == [2130.33, 1421.10, 832.79, 606.14]
    assert [round(row.speedup, 2) for row in rows] == [1.0, 1.5, 1.0, 1.37]
    assert [round(100 * row.efficiency, 1) for row in rows] == [100.0, 75.0, 100.0, 68.7]
    assert {(row.strategy, row.engine, row.model) for row in rows} == {("allreduce", "horovod", "retinanet")}


def test_minotauro():
    """1x/3x/6.5x and 1x/2x are published."""
    rows = published("minotauro")[1]
    assert [row.speedup for row in rows] == pytest.approx([1, 22 / 7.5, 22 / 3.4, 1, 6.8 / 3.5])
    # Images per second of all workers: updates per second x images of an update.
    assert [row.throughput for row in rows] == pytest.approx(
        [0.47 * 128, 1.73 * 128, 3.73 * 128, 0.99 * 256, 1.85 * 256]
    )


def test_horovod_and_goyal():
    assert [row.efficiency for row in published("horovod")[1]] == [1, 0.9, 1, 0.9, 1, 0.68]
    assert [(row.ranks, row.nodes) for row in published("horovod")[1][:2]] == [(1, 1), (512, 128)]
    base, far = published("goyal")[1]
    assert (base.ranks, far.ranks, far.baseline_ranks, far.efficiency) == (8, 256, 8, pytest.approx(0.9))
    assert far.throughput is None  # only the efficiency is published


def test_tensorflow():
    rows = published("tensorflow")[1]
    assert len(rows) == 25
    assert [row.throughput for row in rows[:5]] == [29.7, 229, 459, 902, 1783]
    assert rows[4].efficiency == pytest.approx(1783 / 29.7 / 64)


def test_every_figure_has_a_source():
    for name in names():
        citation, rows = published(name)
        assert any(year in citation for year in ("2016", "2017", "2018", "2019", "2020"))
        assert all(row.source for row in rows)
    with pytest.raises(
        SpecError,
        match="known are bk-synapse, minotauro, brain-imaging, horovod, goyal, tensorflow, bugliarello, dlperf",
    ):
        published("other")
    with pytest.raises(SpecError, match="did you mean 'horovod'"):
        published("horovd")


@pytest.fixture
def call(tmp_path):
    (tmp_path / "t.csv").write_text("gpus,images_per_s\n1,100\n512,46080\n")
    return lambda name, *words: CliRunner().invoke(report, ["against", name, str(tmp_path / "t.csv"), *words])


def test_a_table_beside_published_figures(call):
    result = call("horovod", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(rows[0]) == ["source", *COLUMNS]
    assert [row["source"] for row in rows] == ["own"] * 2 + ["Horovod 2018"] * 6
    assert [float(row["efficiency"]) for row in rows] == [1, 0.9, 1, 0.9, 1, 0.9, 1, 0.68]
    assert "arXiv:1802.05799" in result.stderr
    for words in (["--json"], ["--markdown"], []):
        assert "Horovod 2018" in call("horovod", *words).stdout


def test_runs_beside_published_figures(make_directory, tmp_path):
    make_directory("one", 1, 0.1)
    make_directory("two", 2, 0.125)
    words = ["against", "bk-synapse", "one", "two", "--runs", str(tmp_path / "runs"), "--csv"]
    rows = list(csv.DictReader(io.StringIO(CliRunner().invoke(report, words).stdout)))
    assert [row["source"] == "own" for row in rows] == [True, True, False, False, False, False]


def test_unknown_names_and_other_reports(call):
    assert "known are bk-synapse" in str(call("x").exception)
    assert all(name in CliRunner().invoke(report, ["against", "--help"]).stdout for name in names())
