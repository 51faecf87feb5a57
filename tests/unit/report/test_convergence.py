"""Learning curves with known answers: written as a run writes them, with states at known times."""

import csv
import io
import json
import math

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.report import command as report
from hpcsynapse.errors import RecordError, SpecError
from hpcsynapse.report.convergence import COLUMNS, Target, convergence_report
from hpcsynapse.report.learning_curve import curve
from hpcsynapse.report.loading import load
from hpcsynapse.runs.directory import RunDirectory

# Epochs of 10 s, each followed by a validation of 3 s and a checkpoint of 2 s; start-up until 100.
EPOCH, VALIDATION, SAVING, BEGIN = 10.0, 3.0, 2.0, 100.0


def write_curve(run, accuracies, samples=1000, *, restart=None, tail=""):
    """Write history and learning curve of a run with these accuracies after its epochs."""
    now, states, metrics = BEGIN, [("CREATED", 1.0), ("QUEUED", 2.0), ("SETUP", 3.0), ("SETUP", 50.0)], []
    states.append(("TRAINING", now))
    for number, accuracy in enumerate(accuracies, 1):
        if number == restart:
            states += [("SETUP", now + 1), ("TRAINING", now + 2)]
        states.append(("EVALUATING", now + EPOCH))
        metrics.append(
            {
                "time": now + EPOCH + VALIDATION - 0.1,
                "step": number,
                "epoch": number,
                "samples": number * samples,
                "loss": 1.0,
                "accuracy": accuracy,
            }
        )
        states.append(("SAVING", now + EPOCH + VALIDATION))
        now += EPOCH + VALIDATION + SAVING
        states.append(("TRAINING", now))
    states.append(("FINISHED", now + 0.5))
    run.history.write_text("".join(json.dumps({"time": time, "state": state}) + "\n" for state, time in states))
    run.metrics.write_text("".join(json.dumps(metric) + "\n" for metric in metrics) + tail)
    return run


def rows_of(runs, target):
    return convergence_report([(run, load(run)) for run in runs], Target.parse(str(target)))


def test_samples_and_training_time_to_the_first_validation_that_is_good_enough(make_directory):
    run = write_curve(make_directory("run", 2, 0.1), [0.5, 0.9, 0.96, 0.94], tail='{"samples": 1, "torn')
    (row,) = rows_of([run], 0.9)
    assert (row.reached, row.samples_to_target, row.time_to_target_s) == (1, 2000, pytest.approx(20))
    assert (row.final_value, row.target, row.ranks, row.strategy) == (0.94, 0.9, 2, "allreduce")
    assert row.throughput == pytest.approx(640)
    assert row.goal == "accuracy>=0.9"
    assert rows_of([run], 0.95)[0].time_to_target_s == pytest.approx(30)
    (row,) = rows_of([run], 0.97)
    assert (row.reached, row.samples_to_target, row.time_to_target_s) == (0, None, None)


@pytest.mark.parametrize(
    ("strategy", "ranks", "nodes", "needed", "seconds"),
    [
        ("allreduce", 2, 1, None, 20.0),
        ("ps-sync", 2, 1, None, 20.0),
        ("ps-sync", 2, 1, 2, 20.0),
        ("ps-async", 1, 1, None, 20.0),
        ("mixed", 2, 1, None, 20.0),
        # Others train on while one validates: from 100 to the second validation at 125.
        ("ps-async", 2, 1, None, 25.0),
        ("ps-sync", 2, 1, 1, 25.0),
        ("mixed", 2, 2, None, 25.0),
    ],
)
def test_validation_is_left_out_only_where_all_wait_for_it(make_directory, strategy, ranks, nodes, needed, seconds):
    run = write_curve(make_directory("run", ranks, 0.1, strategy=strategy, nodes=nodes), [0.5, 0.9])
    if needed is not None:
        run.run_toml.write_text(run.run_toml.read_text().replace("[ps]\n", f"[ps]\nneeded = {needed}\n"))
    assert rows_of([run], 0.9)[0].time_to_target_s == pytest.approx(seconds)


def test_samples_of_workers_that_are_not_equally_far_are_counted_from_their_steps(make_directory, rank_writer):
    run = write_curve(make_directory("run", 1, 0.1, strategy="single"), [0.5, 0.9])
    next(run.timings.iterdir()).unlink()
    for rank, step_time in enumerate((1.0, 0.5)):
        rank_writer(run.timings, rank, 2, [step_time] * 60, batch=10, start=BEGIN + 0.1, strategy="ps-async")
    # Validations begin at 110 and 125: 9 and 24 whole steps of one worker, 19 and 49 of the other.
    assert [(point.samples, point.time_s) for point in curve(run, load(run).about)] == [
        (280, pytest.approx(10)),
        (730, pytest.approx(25)),
    ]


def test_a_run_that_was_started_again_has_no_time(make_directory):
    run = write_curve(make_directory("run", 1, 0.1), [0.5, 0.9], restart=2)
    (row,) = rows_of([run], 0.9)
    assert (row.samples_to_target, row.time_to_target_s) == (2000, None)


def test_repeats_are_one_row_with_medians(make_directory):
    accuracies = {"a": [0.9, 0.9], "b": [0.5, 0.9], "c": [0.5, 0.8]}
    runs = [write_curve(make_directory(name, 1, 0.1), values) for name, values in accuracies.items()]
    (row,) = rows_of(runs, 0.9)
    assert (row.repeats, row.reached, row.samples_to_target, row.time_to_target_s) == (3, 2, 2000, pytest.approx(20))
    assert row.final_value == pytest.approx((0.9 + 0.9 + 0.8) / 3)
    assert rows_of([runs[0], runs[2]], 0.9)[0].samples_to_target is None  # half of them took for ever
    other = write_curve(make_directory("other", 2, 0.1), [0.9])
    assert [(row.ranks, row.repeats) for row in rows_of([*runs, other], 0.9)] == [(1, 3), (2, 1)]


def test_runs_with_other_settings_are_no_repeats(make_directory):
    runs = [write_curve(make_directory(name, 1, 0.1), [0.9]) for name in ("a", "b", "c")]
    for run, old, new in ((runs[1], "lr = 0.02", "lr = 0.5"), (runs[2], "seed = 0", "seed = 9")):
        assert old in run.run_toml.read_text()
        run.run_toml.write_text(run.run_toml.read_text().replace(old, new))
    assert [(row.settings, row.repeats) for row in rows_of(runs, 0.9)] == [("train.lr=0.02", 2), ("train.lr=0.5", 1)]
    assert [(row.settings, row.repeats) for row in rows_of(runs[::2], 0.9)] == [("", 2)]


@pytest.mark.parametrize(
    ("target", "samples", "final"),
    [
        ("mae<=0.5", 2000, 0.25),
        ("mae <= 0.3", 3000, 0.25),
        ("my score>=25", 3000, 30.0),
        ("mae>=0.9", 1000, 0.25),
        ("loss<=0.1", None, 1.0),
    ],
)
def test_any_metric_may_be_the_target(make_directory, target, samples, final):
    run = write_curve(make_directory("run", 1, 0.1), [0.5, 0.6, 0.7])
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    more = [{"mae": 1 / 2**number, "my score": 10.0 * (number + 1)} for number in range(3)]
    run.metrics.write_text("".join(json.dumps(one | two) + "\n" for one, two in zip(lines, more, strict=True)))
    (row,) = rows_of([run], target)
    assert (row.samples_to_target, row.final_value) == (samples, final)
    with pytest.raises(SpecError, match="recorded are loss, accuracy, mae, my score"):
        rows_of([run], "psnr>=20")


def test_what_cannot_be_answered_is_an_error(make_directory):
    run = make_directory("run", 1, 0.1)
    for target in (0, 1.5, 95, float("nan")):
        with pytest.raises(SpecError, match=r"fraction|give an accuracy"):
            rows_of([write_curve(run, [0.5])], target)
    usable = {"samples": 3, "time": 4, "accuracy": 0.5}
    for wrong in ({"accuracy": "high"}, {"samples": True}, {"accuracy": math.nan}, {"time": None}):
        run.metrics.write_text(json.dumps({**usable, **wrong}) + "\n")
        with pytest.raises(RecordError, match="no accuracy was recorded on the way"):
            rows_of([run], 0.5)


def test_a_history_that_is_not_whole_gives_samples_without_time(make_directory):
    run = write_curve(make_directory("run", 1, 0.1), [0.5, 0.9])
    run.history.write_text('{"state": "TRAINING", "time": "then"}\n{"state": "EVALUATING", "time": 5.0}\n')
    assert [(point.samples, point.time_s) for point in curve(run, load(run).about)] == [(1000, None), (2000, None)]


@pytest.fixture
def call(tmp_path, make_directory):
    for name, ranks in (("one", 1), ("two", 2)):
        write_curve(make_directory(name, ranks, 0.1), [0.5, 0.9])

    environ = {"HPCSYNAPSE_RUNS": str(tmp_path / "runs")}

    def invoke(*words):
        return CliRunner().invoke(report, ["target", *(str(word) for word in words)], env=environ)

    return invoke


def test_the_report_with_a_target(call, tmp_path):
    done = call("0.9", "one", "two", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["ranks"], row["samples_to_target"], float(row["time_to_target_s"])) for row in rows] == [
        ("1", "2000", pytest.approx(20)),
        ("2", "2000", pytest.approx(20)),
    ]
    assert json.loads(call("0.95", "two", "--json").stdout)[0]["samples_to_target"] is None
    text = call("0.9", "two").stdout
    assert "accuracy>=0.9" in text and "20 s" in text and "2000" in text
    assert call("0.9", "two", "--markdown").stdout.startswith("| strategy |")
    assert call("0.9", "two", "--out", tmp_path / "c.csv").stdout == ""
    assert (tmp_path / "c.csv").read_text().startswith("strategy,engine,")


def test_what_goes_with_a_target(call, tmp_path):
    assert call("0.9", "two", "--baseline", "1").exit_code == 2
    timings = RunDirectory(tmp_path / "runs" / "two").timings
    assert isinstance(call("0.9", timings).exception, SpecError)
    for wrong in ("high", ">=0.3", "loss<=", "loss<0.3", "loss=0.3"):
        assert isinstance(call(wrong, "two").exception, SpecError), wrong
