"""What a half tells of itself: named collapses, counts that go on after a restart, a file at a bounded rate."""

import json
import logging

import pytest
import torch

from hpcsynapse.trainer.dual.statistics import Statistics, verdict


@pytest.mark.parametrize(
    ("first", "now", "dead", "expected"),
    [
        (10.0, 10.0, 0.3, ""),
        (10.0, 0.51, 0.3, ""),
        (10.0, 0.49, 0.3, "collapsed"),
        (10.0, 10.0, 0.96, "collapsed"),
        (10.0, 0.0, 1.0, "collapsed"),
        (10.0, 999.0, 0.0, ""),
        (10.0, 1001.0, 0.0, "diverged"),
        (10.0, float("nan"), 0.0, "diverged"),
        (10.0, float("inf"), 0.0, "diverged"),
    ],
)
def test_verdict(first: float, now: float, dead: float, expected: str) -> None:
    assert verdict(first, now, dead) == expected


def read(path):
    return json.loads(path.read_text())


def test_a_collapse_is_told_once_in_the_log_and_in_the_file(tmp_path, caplog) -> None:
    statistics = Statistics(tmp_path / "dual" / "rank-0.json", half="net1")
    statistics.note(torch.tensor(2.0), torch.full((4, 9), 2.0), 100, 50)  # norm sqrt(9 * 4) = 6
    first = read(tmp_path / "dual" / "rank-0.json")
    assert first["half"] == "net1" and first["verdict"] == ""
    assert first["activation_norm_first"] == first["activation_norm"] == 6.0
    assert first["peak_memory_bytes"] > 1 << 20
    with caplog.at_level(logging.WARNING):
        for number in range(2, 5):
            statistics.note(torch.tensor(0.5), torch.full((2, 9), 0.01), 100 * number, 50 * number)
        statistics.write()
        statistics.write()
    assert [record.message for record in caplog.records] == [
        "activations have collapsed: their norm is 0.03, it began at 6, and 0.0 % are zero"
    ]
    last = read(tmp_path / "dual" / "rank-0.json")
    assert last["verdict"] == statistics.verdict == "collapsed"
    assert (last["exchanges"], last["sent_bytes"], last["received_bytes"], last["loss"]) == (4, 400, 200, 0.5)


def test_the_file_is_written_at_most_once_a_second(tmp_path) -> None:
    statistics = Statistics(tmp_path / "rank-0.json")
    statistics.note(None, torch.ones(2, 2), 1, 1)
    written = (tmp_path / "rank-0.json").stat().st_ino
    for _ in range(50):
        statistics.note(None, torch.ones(2, 2), 1, 1)
    assert (tmp_path / "rank-0.json").stat().st_ino == written
    assert read(tmp_path / "rank-0.json")["exchanges"] == 1


def test_a_later_start_goes_on_counting_and_remembers_the_first_norm(tmp_path) -> None:
    earlier = Statistics(tmp_path / "rank-0.json")
    earlier.note(torch.tensor(1.0), torch.full((1, 4), 5.0), 100, 10)
    later = Statistics(tmp_path / "rank-0.json")
    later.load(earlier.state())
    later.note(torch.tensor(1.0), torch.full((1, 4), 0.1), 30, 3)
    later.write()
    found = read(tmp_path / "rank-0.json")
    assert (found["exchanges"], found["sent_bytes"], found["received_bytes"]) == (2, 130, 13)
    assert found["activation_norm_first"] == 10.0 and found["verdict"] == "collapsed"


def test_a_file_system_that_is_full_stops_no_training(tmp_path, caplog) -> None:
    (tmp_path / "dual").touch()
    statistics = Statistics(tmp_path / "dual" / "rank-0.json")
    statistics.note(None, torch.ones(1, 1), 0, 0)
    assert "cannot be written" in caplog.text
