"""Reports as DataFrames: what the command line prints, and nothing heavy before it is asked for."""

import io
import pkgutil
import subprocess
import sys
import warnings

import numpy as np
import pandas
import pytest

from hpcsynapse import report
from hpcsynapse.errors import RecordError, RunNotFoundError, SpecError
from hpcsynapse.report import points
from hpcsynapse.report.change import COLUMNS
from hpcsynapse.report.loading import load as load_run
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.writers import to_csv


@pytest.fixture
def runs(make_directory, tmp_path):
    make_directory("one", 1, 0.1, strategy="single", engine="none", noise=0.01)
    make_directory("two", 2, 0.11, noise=0.01, warmup=10)
    return tmp_path / "runs"


def test_load_is_the_csv(runs):
    frame = report.load("one", "two", runs=runs)
    rows = scaling_report([load_run(runs / name / "timings") for name in ("one", "two")]).points
    of_csv = pandas.read_csv(io.StringIO(to_csv(rows, points.COLUMNS)), keep_default_na=True)
    known = [name for name in of_csv if not of_csv[name].isna().any()]
    assert list(frame.columns) == list(of_csv.columns)
    assert len(known) > 20
    pandas.testing.assert_frame_equal(frame[known], of_csv[known], check_dtype=False)
    assert frame.accuracy.dtype == float and np.isnan(frame.accuracy[0])


def test_the_folder_of_the_runs(runs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert len(report.load("one")) == 1
    monkeypatch.chdir("/")
    with pytest.raises(RunNotFoundError):
        report.load("one")
    monkeypatch.setenv("HPCSYNAPSE_RUNS", str(runs))
    assert len(report.load("one")) == len(report.load(str(runs / "one"))) == 1


def test_load_takes_what_report_takes(runs, tmp_path):
    assert set(report.load("two", runs=runs, scaling="weak").scaling) == {"weak"}
    speedups = report.load("two", "one", runs=runs, baseline="allreduce").speedup
    assert list(speedups) == pytest.approx([0.55, 1.0], rel=0.01)
    (tmp_path / "t.csv").write_text("gpus,images_per_s\n1,100\n4,360\n")
    assert list(report.load(str(tmp_path / "t.csv")).efficiency) == [1.0, 0.9]


def test_warnings_are_python_warnings(runs, make_directory):
    make_directory("adam", 2, 0.1, optimizer="adam")
    with pytest.warns(UserWarning, match="different optimizer"):
        report.load("two", "adam", runs=runs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.load("one", "two", runs=runs)


def test_steps_have_every_record_once(rank_writer, tmp_path):
    for rank in (1, 0):
        rank_writer(tmp_path, rank, 2, [0.1] * 30, attempt="1", host="old")
        rank_writer(
            tmp_path, rank, 2, [0.2 + rank] * 30, attempt="2", first=20, start=2000.0, warmup=5, host=f"n{rank}"
        )
    frame = report.steps(str(tmp_path))
    assert frame.shape == (100, 17)
    assert list(frame["rank"]) == [0] * 50 + [1] * 50
    assert list(frame.step) == [*range(50), *range(50)]
    assert list(frame.host.unique()) == ["n0", "n1"]
    assert frame.total.to_numpy() == pytest.approx([0.1] * 20 + [0.2] * 30 + [0.1] * 20 + [1.2] * 30)
    assert list(frame.step[frame.warmup]) == [20, 21, 22, 23, 24] * 2
    assert frame.total.dtype == frame.loss.dtype == float


def test_steps_of_what_is_not_there(tmp_path):
    with pytest.raises(RunNotFoundError):
        report.steps("absent", runs=tmp_path)
    (tmp_path / "rank-00000.0.steps").write_bytes(b"")
    with pytest.raises(RecordError):
        report.steps(str(tmp_path))


def test_learning_curves(make_directory, tmp_path):
    run = make_directory("one", 1, 0.1)
    run.append_history("TRAINING")
    for epoch in (1, 2):
        run.append_metrics(50 * epoch, epoch, 1600 * epoch, {"loss": 1.0, "accuracy": 0.4 * epoch})
    frame = report.learning_curves("one", runs=tmp_path / "runs")
    assert list(frame.columns) == ["run", "strategy", "engine", "ranks", "samples", "time_s", "accuracy", "loss"]
    assert list(frame.samples) == [1600, 3200] and list(frame.accuracy) == [0.4, 0.8]
    with pytest.raises(SpecError, match="without a learning curve"):
        report.learning_curves(str(run.timings))


def test_compare(runs, make_directory):
    make_directory("slow", 2, 0.13, noise=0.01)
    frame = report.compare("two", "slow", "one", runs=runs)
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame.verdict) == ["slower", "new"]
    assert list(report.compare("two", "slow", runs=runs, tolerance=0.3).verdict) == ["same"]
    assert frame.time_ratio[0] == pytest.approx(0.13 / 0.11, rel=0.01) and np.isnan(frame.time_ratio[1])


def test_no_module_takes_the_place_of_a_function():
    modules = {module.name for module in pkgutil.iter_modules(report.__path__)}
    assert not modules & set(report.__all__)
    assert set(report.__all__) <= set(dir(report))
    with pytest.raises(AttributeError, match="nothing"):
        _ = report.nothing


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, hpcsynapse.report; print({'numpy', 'pandas', 'matplotlib'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_without_pandas_the_error_says_what_to_install(runs):
    code = (
        "import sys; sys.modules['pandas'] = None\nimport hpcsynapse.report as report\n"
        f"try:\n    report.load('one', runs={str(runs)!r})\nexcept Exception as error:\n    print(error)"
    )
    assert "pip install 'hpcsynapse[report]'" in subprocess.check_output([sys.executable, "-c", code], text=True)
