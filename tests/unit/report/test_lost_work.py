"""Where node-hours went: parts that add up, in histories of which everything is known."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from interrupted_runs import PARTS, History, generated

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import RecordError
from hpcsynapse.report.lost_work import lost_work
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec


@pytest.mark.parametrize("seed", range(60))
def test_the_parts_are_the_true_ones_and_add_up(tmp_path: Path, seed: int) -> None:
    history = generated(tmp_path, seed)
    truth, (found,) = history.truth, lost_work([history.run])
    assert found.hours.exact
    assert found.hours.allocated * 3600 == pytest.approx(truth.allocated, rel=1e-3)
    assert sum(getattr(found.hours, part) for part in PARTS) == pytest.approx(found.hours.allocated, rel=1e-9)
    for part in PARTS:
        told = getattr(found.hours, part) * 3600
        assert told == pytest.approx(truth.parts[part], abs=1e-3 * truth.allocated), part
    assert [(one.cause, one.host, one.lost_steps) for one in found.interruptions] == truth.interruptions
    assert found.hours.goodput == pytest.approx(truth.parts["useful"] / truth.allocated, abs=1e-3)


def known(runs: Path) -> History:
    """Two nodes; 60 s of start-up, 3 steps saved in 4 s, 2 lost, 10 s until the failure is known; then to the end."""
    history = History(runs, "a", 2, random.Random(0))
    history.start(60.0)
    history.steps(3)
    history.pause("checkpoint", "save", 4.0)
    history.steps(2)
    history.end(detected=10.0, tidied=5.0, host=1)
    history.start(30.0)
    history.steps(4)
    history.pause("validation", "validation", 8.0)
    history.finish(2.0)
    return history


def test_a_known_history(tmp_path: Path) -> None:
    (found,) = lost_work([known(tmp_path).run])
    hours = found.hours
    seconds = {part: getattr(hours, part) * 3600 for part in PARTS}
    assert seconds["restart"] == pytest.approx(2 * 90)
    assert seconds["save"] == pytest.approx(2 * 4)
    assert seconds["validation"] == pytest.approx(2 * 8)
    assert seconds["detection"] == pytest.approx(2 * 10, abs=1e-5)
    assert seconds["waiting"] == pytest.approx(2 * 7, abs=1e-5)
    assert (hours.starts, hours.interruptions, hours.lost_steps) == (2, 1, 2)
    (one,) = found.interruptions
    assert (one.start, one.cause, one.host) == (1, "rank 1: killed by SIGKILL", "n1")
    assert one.evidence == "evidence/1.0/failure-00001.json"
    assert one.restart * 3600 == pytest.approx(2 * 30)


def test_a_script_that_left_no_word_has_no_cause_and_the_nodes_were_lost(tmp_path: Path) -> None:
    history = History(tmp_path, "a", 1, random.Random(1))
    history.start(10.0)
    history.steps(5)
    history.end(word=False)
    for path in (*history.run.evidence("1.0").iterdir(), history.run.evidence("1.0")):
        os.utime(path, (history.begun, history.begun + 1))
    history.start(10.0)
    history.steps(2)
    history.finish(1.0)
    (found,) = lost_work([history.run])
    (one,) = found.interruptions
    assert (one.cause, one.host, one.evidence) == ("unknown: its job script left no word", "", "")
    assert not found.hours.exact and found.hours.lost_steps == 5


def test_a_node_that_no_rank_was_on_waited(tmp_path: Path) -> None:
    history = known(tmp_path)
    lines = history.run.starts.read_text().replace('"n0 n1"', '"n0 n1 n2"')
    history.run.starts.write_text(lines)
    (found,) = lost_work([history.run])
    assert found.hours.allocated * 3600 == pytest.approx(history.truth.allocated * 1.5)
    assert found.hours.waiting * 3600 == pytest.approx(
        history.truth.parts["waiting"] + history.truth.allocated / 2, rel=1e-6
    )


def test_starts_within_one_allocation_follow_one_another(tmp_path: Path) -> None:
    """As a run that is started again in its job: `1.0+1` after `1.0`, one begin and one end of the allocation."""
    history = known(tmp_path)
    run = history.run
    for path in [*run.timings.glob("*.2.0.steps")]:
        path.write_bytes(path.read_bytes().replace(b'"attempt": "2.0"', b'"attempt": "1.0+1"'))
    run.evidence("2.0").rename(run.evidence("1.0+1"))
    lines = [json.loads(line) for line in run.starts.read_text().splitlines()]
    lines[2] |= {"event": "begin", "attempt": "1.0+1", "hosts": ["n0", "n1"]}
    lines[3] |= {"attempt": "1.0"}
    run.starts.write_text("".join(json.dumps(line) + "\n" for line in (lines[0], lines[2], lines[3])))
    run.exit.write_text(
        json.dumps({"exit_code": 0, "time": lines[3]["time"], "attempt": "1.0", "start": lines[0]["time"]})
    )
    (found,) = lost_work([run])
    assert found.hours.allocated * 3600 == pytest.approx(2 * (lines[3]["time"] - lines[0]["time"]))
    assert (found.hours.starts, found.hours.lost_steps) == (2, 2)


def test_damaged_lines_and_values_are_passed_over(tmp_path: Path) -> None:
    history = known(tmp_path)
    before = lost_work([history.run])
    with history.run.starts.open("a") as file:
        file.write('{"event": "released", "attempt": "1.0", "time": "x"}\n{"event": 3}\n[]\n{"attempt": "1.0", "ti')
    assert lost_work([history.run]) == before


def test_a_run_without_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="a: no step records"):
        lost_work([RunDirectory.create(tmp_path, JobSpec(name="a"))])


def test_the_command_shows_both_tables(tmp_path: Path) -> None:
    known(tmp_path)
    words = ["report", "lost", "a", "--runs", str(tmp_path)]
    text = CliRunner().invoke(cli, words).output
    assert "goodput" in text and "rank 1: killed by SIGKILL" in text
    (row,) = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)
    assert row["allocated"] == pytest.approx(sum(row[part] for part in PARTS))
    (row,) = json.loads(CliRunner().invoke(cli, [*words, "--interruptions", "--json"]).output)
    assert (row["host"], row["lost_steps"]) == ("n1", 2)
