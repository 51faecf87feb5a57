"""Which rank ended a run, and the exit code of the job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.failure import first_failure
from hpcsynapse.spec.job import JobSpec


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create(tmp_path, JobSpec(name="run"))
    made.evidence("7").mkdir(parents=True)
    return made


def failed(run: RunDirectory, rank: int, time: float, code: int = 1, log: str = "", **more: Any) -> None:
    record = {"rank": rank, "host": f"n{rank}", "code": code, "reason": f"exit code {code}", "time": time, **more}
    write_json(run.failure("7", rank), record)
    run.rank_log(rank).write_text(log)


def exit_code(run: RunDirectory, code: int) -> str:
    command = [sys.executable, "-m", "hpcsynapse.job", "exit-code", str(run.path), "7", str(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


def test_nothing_is_known(run: RunDirectory) -> None:
    assert first_failure(run, "7") == {}
    assert exit_code(run, 3) == "3"


def test_the_first_of_several_is_the_cause(run: RunDirectory) -> None:
    failed(run, 0, 20.0, 1)
    failed(run, 3, 10.0, 5, "bad file\n")
    found = first_failure(run, "7")
    assert (found["rank"], found["code"], found["by_itself"], found["log"]) == (3, 5, True, ["bad file"])
    assert exit_code(run, 1) == "5"


@pytest.mark.parametrize(
    "text", ["RuntimeError: Connection closed by peer", "horovod: HorovodInternalError", "OSError: Broken pipe"]
)
def test_who_lost_a_peer_comes_after_the_cause(run: RunDirectory, text: str) -> None:
    failed(run, 0, 10.0, 1, f"{text}\n")
    failed(run, 1, 11.0, 137)
    assert first_failure(run, "7")["rank"] == 1


def test_who_was_told_to_end_comes_last(run: RunDirectory) -> None:
    failed(run, 0, 10.0, 143, told_to_end=True)
    failed(run, 1, 11.0, 2)
    assert first_failure(run, "7")["rank"] == 1
    run.failure("7", 1).unlink()
    assert not first_failure(run, "7")["by_itself"]
    assert exit_code(run, 9) == "9"


def test_a_rank_that_left_nothing_is_the_cause_of_those_that_lost_it(run: RunDirectory) -> None:
    write_json(run.evidence("7") / "rank-00000.json", {"rank": 0, "host": "n0"})
    write_json(run.evidence("7") / "rank-00001.json", {"rank": 1, "host": "n1"})
    failed(run, 0, 10.0, 1, "connection reset\n")
    found = first_failure(run, "7")
    assert (found["rank"], found["host"], found["code"]) == (1, "n1", None)


def test_a_worker_without_its_server_is_the_cause_and_not_one_that_has_done_its_part(run: RunDirectory) -> None:
    """Servers leave no record, and those who ended well neither."""
    for rank in (0, 1):
        write_json(run.evidence("7") / f"rank-{rank:05d}.json", {"rank": rank, "host": f"n{rank}"})
    log = "ConnectionRefusedError: [Errno 111] Connection refused\nno parameter server at n0:2000 within 60 s\n"
    failed(run, 1, 10.0, 1, log)
    found = first_failure(run, "7")
    assert (found["rank"], found["code"], found["log"]) == (1, 1, log.splitlines())


def test_damaged_records_are_passed_over(run: RunDirectory) -> None:
    run.failure("7", 0).write_text("{torn")
    write_json(run.failure("7", 1), {"rank": 1})
    failed(run, 2, 10.0, 4)
    assert first_failure(run, "7")["rank"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": "two"},
        {"rank": -1},
        {"rank": None},
        {"rank": 10**30},
        {"code": "three"},
        {"code": 10**30},
        {"time": "now"},
        {"time": float("nan")},
        {"host": 3},
        {"reason": ["x"]},
    ],
    ids=str,
)
def test_a_record_that_says_what_cannot_be_is_passed_over(run: RunDirectory, wrong: dict[str, Any]) -> None:
    failed(run, 1, 20.0, 5)
    record = {"rank": 0, "host": "n0", "code": 3, "reason": "x", "time": 10.0, **wrong}
    write_json(run.failure("7", 0), record)
    found = first_failure(run, "7")
    assert (found["rank"], found["code"]) == (1, 5)
    run.failure("7", 1).unlink()
    assert first_failure(run, "7") == {} and exit_code(run, 9) == "9"


@pytest.mark.parametrize(
    ("state", "attempt", "code"),
    [("FINISHED", "7", "0"), ("STOPPED", "7", "0"), ("TRAINING", "7", "1"), ("FINISHED", "6", "1")],
)
def test_success_counts_only_when_rank_0_reached_its_end(
    run: RunDirectory, state: str, attempt: str, code: str
) -> None:
    write_json(run.status, {"state": state, "attempt": attempt, "strategy": "allreduce"})
    assert exit_code(run, 0) == code


@pytest.mark.parametrize(("strategy", "code"), [("ps-async", "0"), ("mixed", "0"), ("allreduce", "137")])
def test_a_lost_worker_is_no_failure_where_the_run_reached_its_end_without_it(
    run: RunDirectory, strategy: str, code: str
) -> None:
    failed(run, 2, 10.0, 137)
    write_json(run.status, {"state": "FINISHED", "attempt": "7", "strategy": strategy})
    assert exit_code(run, 137) == code
