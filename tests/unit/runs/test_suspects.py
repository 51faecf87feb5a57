"""Nodes that are left out: two strikes with evidence, none by chance, and not for ever."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.suspects import EXPIRY, Strike, judge, suspects
from hpcsynapse.spec.job import JobSpec

NOW = 1_800_000_000.0


def strike(host: str, reason: str = "CUDA error: uncorrectable ECC error", age: float = 0.0) -> Strike:
    return Strike(host=host, reason=reason, time=NOW - age)


def hosts(*strikes: Strike) -> list[str]:
    return [one.host for one in judge(strikes, NOW)]


def test_two_strikes_and_no_fewer() -> None:
    assert hosts(strike("n1")) == []
    assert hosts(strike("n1"), strike("n2", "killed by SIGSEGV"), strike("n1")) == ["n1"]
    assert hosts(strike("n1", "killed by SIGSEGV"), strike("n1", "no sign of life for 75 s")) == ["n1"]
    assert judge([strike("n1"), strike("n1")], NOW)[0].reasons == (strike("n1").reason,) * 2


def test_strikes_expire() -> None:
    assert hosts(strike("n1", age=EXPIRY - 1), strike("n1")) == ["n1"]
    assert hosts(strike("n1", age=EXPIRY + 1), strike("n1")) == []


def test_what_fails_everywhere_is_no_nodes_fault() -> None:
    bug = [strike(host, "ValueError: shape") for host in ("n1", "n2", "n1", "n1")]
    assert hosts(*bug) == []
    assert hosts(*bug, strike("n3"), strike("n3")) == ["n3"]


def test_fifty_runs_with_random_kills_leave_nothing_out() -> None:
    dice = random.Random(0)
    signals = ("killed by SIGKILL", "killed by SIGTERM", "killed by SIGINT", "stopped by a signal (SIGSTOP) for 300 s")
    for _ in range(50):
        assert hosts(*(strike(f"n{dice.randint(1, 4)}", dice.choice(signals)) for _ in range(10))) == []


@pytest.mark.parametrize(
    ("reason", "code"), [("killed by SIGBUS", 135), ("no sign of life for 75 s", 75), ("could not be placed", 1)]
)
def test_the_evidence_of_a_run(tmp_path: Path, reason: str, code: int) -> None:
    run = RunDirectory.create(tmp_path, JobSpec(name="bad"))
    for attempt, host in (("1.0", "n2"), ("1.0+1", "n2"), ("2.0", "n1")):
        run.evidence(attempt).mkdir(parents=True)
        told = {"rank": 1, "host": host, "code": code, "reason": f"{reason}" if host == "n2" else "killed by SIGKILL"}
        write_json(run.failure(attempt, 1), {**told, "time": NOW, "told_to_end": False, "waits": False})
        write_json(run.failure(attempt, 0), {**told, "rank": 0, "host": "n1", "time": NOW + 1, "told_to_end": True})
    assert [one.host for one in suspects(run, NOW + 60)] == ["n2"]
    assert suspects(run, NOW + 2 * EXPIRY) == []
