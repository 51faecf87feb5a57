"""Dual nets beside other runs: equal samples, equal exchanges, largest batches, and what damaged files leave of it."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.report import command as report
from hpcsynapse.errors import RecordError
from hpcsynapse.files import write_json
from hpcsynapse.report.dual import COLUMNS, dual_report
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.timing import StepRecorder

NET1 = {
    "rank": 0,
    "half": "net1",
    "method": "proximal",
    "cut": "pool2",
    "exchange": "files",
    "exchanges": 40,
    "sent_bytes": 40_000,
    "received_bytes": 10_000,
    "loss": 7.5,
    "activation_norm_first": 10.0,
    "activation_norm": 0.2,
    "dead": 0.5,
    "verdict": "collapsed",
    "peak_memory_bytes": 300 << 20,
    "memory": {"batches": [50, 100], "single": [6_000, 11_000], "net1": [3_000, 5_000], "net2": [2_000, 3_000]},
}
NET2 = {"rank": 1, "half": "net2", "loss": 1.25, "peak_memory_bytes": 200 << 20, "peak_device_bytes": 5 << 20}


def make(folder, name, strategy, curve, batch=10):
    """Write a run as the trainer does: records of its ranks, a learning curve of (step, accuracy), a status."""
    ranks = 2 if strategy == "admm" else 1
    spec = JobSpec(name=name, train=TrainSpec(strategy=strategy), resources=ResourceRequest(ranks_per_node=ranks))
    run = RunDirectory.create(folder, spec)
    for rank in range(ranks):
        label = "admm+late" if strategy == "admm" else strategy
        about = {"strategy": strategy, "exchange": label, "global_batch": batch}
        with StepRecorder(run.timings, rank=rank, **about) as recorder, recorder.step(samples=batch, loss=0.5):
            pass
    for step, accuracy in curve:
        run.append_metrics(step, 1, step * batch, {"accuracy": accuracy, "loss": 1.0})
    write_json(run.status, {"state": "FINISHED", "step": curve[-1][0], "loss": 0.75})
    return run


@pytest.fixture
def runs(tmp_path):
    dual = make(tmp_path, "dual", "admm", [(10, 0.3), (20, 0.5), (40, 0.7)])
    for rank, facts in enumerate((NET1, NET2)):
        dual.dual.mkdir(exist_ok=True)
        write_json(dual.dual / f"rank-{rank}.json", facts)
    return [dual, make(tmp_path, "single", "single", [(15, 0.2), (30, 0.6)], batch=20)]


def test_rows(runs) -> None:
    dual, single = dual_report(runs, limit=21_000)
    assert (dual.run, dual.strategy, dual.cut, dual.transport) == ("dual", "admm+late", "pool2", "files")
    assert (dual.exchanges, dual.samples, dual.accuracy) == (40, 400, 0.7)
    assert (dual.net1_loss, dual.net2_loss, dual.verdict) == (7.5, 1.25, "collapsed")
    assert (dual.norm_first, dual.norm, dual.dead) == (10.0, 0.2, 0.5)
    assert (dual.bytes_forward, dual.bytes_back) == (1000.0, 250.0)
    assert (dual.net1_memory, dual.net2_memory) == (300 << 20, 200 << 20)
    assert (dual.net1_device_memory, dual.net2_device_memory) == (None, 5 << 20)
    assert (dual.single_batch, dual.net1_batch, dual.net2_batch) == (200, 500, 1000)
    assert (single.exchanges, single.samples, single.accuracy, single.net2_loss) == (30, 600, 0.6, 0.75)
    assert (single.net1_loss, single.verdict, single.single_batch, single.bytes_forward) == (None, "", None, None)


def test_accuracy_at_equal_samples_and_at_equal_exchanges(runs) -> None:
    """400 samples and 30 exchanges are what both have; the newest validation until then counts."""
    dual, single = dual_report(runs)
    assert dual.equal_samples == single.equal_samples == 400
    assert (dual.accuracy_at_equal_samples, single.accuracy_at_equal_samples) == (0.7, 0.2)
    assert dual.equal_exchanges == single.equal_exchanges == 30
    assert (dual.accuracy_at_equal_exchanges, single.accuracy_at_equal_exchanges) == (0.5, 0.6)


def test_csv_json_and_table(runs, tmp_path) -> None:
    names = ["--runs", str(tmp_path), "dual", "single"]
    done = CliRunner().invoke(report, ["dual", *names, "--csv"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["verdict"] == "collapsed" and rows[1]["net1_loss"] == ""
    done = CliRunner().invoke(report, ["dual", *names, "--memory-limit", "1M", "--json"])
    assert json.loads(done.stdout)[0]["limit"] == 1 << 20
    table = CliRunner().invoke(report, ["dual", *names]).stdout
    assert "collapsed" in table and "at equal exchanges" in table and "70.0%" in table
    plain = CliRunner().invoke(report, [*names, "--csv"])
    assert "net1" not in plain.stdout
    wrong = CliRunner().invoke(report, ["dual", *names, "--memory-limit", "much"])
    assert wrong.exit_code != 0 and "'much' is not a size" in str(wrong.exception)


def test_without_dual_nets_there_is_nothing_to_report(runs) -> None:
    with pytest.raises(RecordError, match="no run of strategy admm"):
        dual_report(runs[1:])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"exchanges": "many", "memory": {"batches": [1]}, "loss": null}'])
def test_damaged_files_leave_what_is_known(runs, text: str) -> None:
    (runs[0].dual / "rank-1.json").write_text(text)
    if text.startswith('{"'):
        (runs[0].dual / "rank-0.json").write_text(text)
    dual, _ = dual_report(runs, limit=10**6)
    assert dual.exchanges == 40 and dual.accuracy == 0.7
    assert dual.net2_memory is None
