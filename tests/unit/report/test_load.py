"""Reading the records of a run: starts, torn ends, odd step numbers, merged or not."""

import json

import numpy as np
import pytest

from hpcsynapse.errors import RecordError, RunNotFoundError
from hpcsynapse.report.loading import find_records, load
from hpcsynapse.report.points import COLUMNS
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.runs.records import merge, parts
from hpcsynapse.timing import RECORD
from hpcsynapse.writers import to_csv


def test_merged_and_unmerged_report_alike(make_run):
    run = make_run("run", 4, 0.1, noise=0.05, epoch_steps=30, warmup=5)
    before = to_csv(scaling_report([load(run)]).points, COLUMNS)
    merge(run)
    assert to_csv(scaling_report([load(run)]).points, COLUMNS) == before


def test_sums_over_ranks(make_run, rank_writer, tmp_path):
    rng = np.random.default_rng(3)
    times = rng.uniform(0.1, 0.2, (5, 40)).astype(np.float32)
    for rank in range(5):
        rank_writer(tmp_path / "run", rank, 5, times[rank], batch=10 + rank)
    run = load(tmp_path / "run")
    np.testing.assert_array_equal(run.slowest, times.max(axis=0))
    np.testing.assert_array_equal(run.samples, np.full(40, 60))
    np.testing.assert_array_equal(run.step, np.arange(40))


def test_torn_ends_are_left_out_and_counted(make_run):
    run = make_run("run", 3, 0.1, steps=50)
    for part, kept in zip(parts(run), (50, 47, 49), strict=True):
        with part.path.open("r+b") as file:
            file.truncate(part.offset + kept * RECORD.size + 13)
    loaded = load(run)
    assert len(loaded.step) == 47
    assert loaded.left_out == 3


def test_the_newest_start_wins(rank_writer, tmp_path):
    for rank in range(2):  # killed after step 59, resumed from a checkpoint at step 40
        rank_writer(tmp_path, rank, 2, [0.1] * 60, attempt="100")
        rank_writer(tmp_path, rank, 2, [0.3] * 60, attempt="99", first=40, start=2000.0, warmup=2)
    run = load(tmp_path)
    np.testing.assert_array_equal(run.step, np.arange(100))
    np.testing.assert_allclose(run.slowest, [0.1] * 40 + [0.3] * 60, rtol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(run.warmup), [40, 41])
    assert run.left_out == 0


def test_steps_whose_ranks_come_from_different_starts_are_left_out(rank_writer, tmp_path):
    for rank in range(2):
        rank_writer(tmp_path, rank, 2, [0.1] * 60, attempt="0")
        rank_writer(tmp_path, rank, 2, [0.3] * (10 - rank), attempt="1", first=40, start=2000.0)
    run = load(tmp_path)
    assert run.left_out == 1
    assert 49 not in run.step


def test_an_epoch_with_a_restart_inside_is_not_timed(rank_writer, tmp_path):
    rank_writer(tmp_path, 0, 1, [0.1] * 25, epoch_steps=20)
    rank_writer(tmp_path, 0, 1, [0.1] * 35, epoch_steps=20, attempt="1", first=25, start=9000.0)
    np.testing.assert_allclose(load(tmp_path).epoch_times, [2.0, 2.0], rtol=1e-5)


def test_step_numbers_may_be_sparse_large_or_out_of_order(rank_writer, tmp_path):
    order = [4_000_000_000, 7, 7_000]
    for rank in range(2):
        path = rank_writer(tmp_path, rank, 2, [0.1, 0.2, 0.3])
        body = bytearray(path.read_bytes())
        begin = body.index(b"\n") + 1
        for index, step in enumerate(order):
            body[begin + index * RECORD.size : begin + index * RECORD.size + 4] = step.to_bytes(4, "little")
        path.write_bytes(body)
    run = load(tmp_path)
    np.testing.assert_array_equal(run.step, sorted(order))
    np.testing.assert_allclose(run.slowest, [0.2, 0.3, 0.1], rtol=1e-6)


def test_ranks_that_record_different_steps_meet_on_the_common_ones(rank_writer, tmp_path):
    rank_writer(tmp_path, 0, 2, [0.1] * 10, first=0)
    rank_writer(tmp_path, 1, 2, [0.1] * 10, first=4)
    run = load(tmp_path)
    np.testing.assert_array_equal(run.step, [4, 5, 6, 7, 8, 9])
    assert run.left_out == 8


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_step_without_a_duration_is_not_used(rank_writer, tmp_path, bad):
    rank_writer(tmp_path, 0, 1, [0.1] * 5 + [bad] + [0.1] * 5)
    run = load(tmp_path)
    assert 5 not in run.step and run.left_out == 1
    for rank, where in enumerate((5, 5, 7)):
        rank_writer(tmp_path / "several", rank, 3, [0.1] * where + [bad] + [0.1] * (10 - where))
    run = load(tmp_path / "several")
    np.testing.assert_array_equal(run.step, [0, 1, 2, 3, 4, 6, 8, 9, 10])
    assert run.left_out == 2
    rank_writer(tmp_path, 0, 1, [bad])
    with pytest.raises(RecordError, match="no step with a duration"):
        load(tmp_path)


def test_nothing_recorded_is_an_error(tmp_path, make_directory, rank_writer):
    run = make_directory("empty", 2, 0.1, steps=0)
    with pytest.raises(RecordError, match=r"empty: no step records in .*timings"):
        load(run)
    for rank, first in enumerate((0, 100)):
        rank_writer(tmp_path / "apart", rank, 2, [0.1], first=first)
    with pytest.raises(RecordError, match="no step that all 2 ranks recorded"):
        load(tmp_path / "apart")


def test_a_recorder_that_knew_no_world_size_counts_the_ranks_there_are(rank_writer, tmp_path):
    for rank in range(3):
        rank_writer(tmp_path, rank, 1, [0.1] * 5, host=f"node{rank}")
    about = load(tmp_path).about
    assert (about.ranks, about.nodes) == (3, 3)


def test_run_directory_facts(make_directory, tmp_path):
    run = make_directory(
        "r",
        2,
        0.1,
        status={"state": "FINISHED", "metrics": {"accuracy": 0.975, "loss": 0.1}},
        start=5000.0,
        epoch_steps=200,
    )
    run.history.write_text('{"time": 4990.0, "state": "SETUP"}\n{"time": 4999.0, "state": "TRAINING"}\n')
    loaded = load(find_records(tmp_path / "runs", "r"))
    assert loaded.start_up_s == pytest.approx(10.0)
    # A second start of the job; in each, the wrapper says SETUP first and the trainer says it again.
    lines = [
        (4000.0, "SETUP"),
        (4005.0, "SETUP"),
        (4010.0, "TRAINING"),
        (4990.0, "SETUP"),
        (4995.0, "SETUP"),
        (4999.0, "TRAINING"),
        (5020.0, "SAVING"),
    ]
    run.history.write_text("".join(f'{{"time": {when}, "state": "{state}"}}\n' for when, state in lines))
    assert load(find_records(tmp_path / "runs", "r")).start_up_s == pytest.approx(10.0)
    assert loaded.about.accuracy == 0.975
    np.testing.assert_allclose(loaded.epoch_times, [20.0], rtol=1e-5)  # its only epoch, and it finished


def test_a_command_of_the_user_is_known_by_its_program(make_directory):
    run = make_directory("r", 1, 0.1, model="", data="", optimizer="")
    text = 'command = ["python", "code/train.py", "--epochs", "3"]\n' + run.run_toml.read_text()
    run.run_toml.write_text(text)
    about = load(run).about
    assert (about.model, about.data, about.optimizer) == ("train.py", "", "")


def test_a_description_of_a_newer_release_can_still_be_reported(make_directory):
    run = make_directory("r", 1, 0.1)
    run.run_toml.write_text(run.run_toml.read_text() + "\n[unheard-of]\nsetting = 1\n")
    assert load(run).about.name == "r"


def test_bare_folders_are_found_and_unknown_names_refused(make_run, tmp_path):
    folder = make_run("bare", 1, 0.1)
    assert find_records(tmp_path / "runs", str(folder)) == folder
    merge(folder)
    assert find_records(tmp_path / "runs", str(folder)) == folder
    with pytest.raises(RunNotFoundError, match="no run 'nothing'"):
        find_records(tmp_path / "runs", "nothing")


def test_headers_are_json_lines(make_run):
    part = parts(make_run("run", 1, 0.1))[0]
    assert json.loads(part.path.read_bytes().split(b"\n")[0])["rank"] == 0
