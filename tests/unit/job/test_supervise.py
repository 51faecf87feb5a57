"""Process groups are told to end, given the time that the ladder of graces names, and ended for certain."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcsynapse.job import supervise
from hpcsynapse.job.supervise import GRACES, Ending, Stopping

ROOT = Path(__file__).parents[3]


def test_each_outer_grace_is_longer_than_the_inner() -> None:
    seconds = list(dataclasses.astuple(GRACES))
    assert seconds == sorted(set(seconds))
    assert all(outer - inner >= 1 for inner, outer in itertools.pairwise(seconds))
    assert GRACES.queue == 30, "Slurm's own default of KillWait, within which all others have to be over"


def test_no_other_place_names_a_grace() -> None:
    named = re.compile(r"_?GRACE(?:_SECONDS)? = |kill-after=\d|timeout -k \d|^hpcs_grace=\d", re.MULTILINE)
    allowed = {"hpcsynapse/trainer/watchdog.py", "hpcsynapse/cli/study.py"}  # limits on hangs and on whole runs
    places = [*(ROOT / "hpcsynapse").rglob("*.py"), *(ROOT / "templates").rglob("*.j2")]
    found = {str(path.relative_to(ROOT)) for path in places if named.search(path.read_text())}
    assert found <= allowed


def started(folder: Path, script: str) -> subprocess.Popen[bytes]:
    """A script that has touched `ready` in a folder."""
    child = supervise.start(["sh", "-c", script], cwd=str(folder))
    limit = time.monotonic() + 20
    while not (folder / "ready").exists():
        assert time.monotonic() < limit
        time.sleep(0.01)
    return child


def test_a_group_ends_by_itself_within_its_grace(tmp_path: Path) -> None:
    child = started(tmp_path, "trap 'sleep 0.3; touch saved; exit 7' TERM; touch ready; while :; do sleep 0.05; done")
    ending = Ending(20)
    ending.tell([child.pid])  # nothing has begun
    assert child.poll() is None
    ending.begin()
    assert supervise.wait(child, ending) == 7
    supervise.wait_for_group(child.pid, ending)
    assert (tmp_path / "saved").exists() and not ending.over


def test_what_does_not_listen_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    child = started(tmp_path, "trap '' TERM; sleep 60 & echo $! > ready; wait")
    ending = Ending(0.2)
    ending.begin()
    begin = time.monotonic()
    assert supervise.wait(child, ending) == -signal.SIGKILL
    supervise.wait_for_group(child.pid, ending)
    assert time.monotonic() - begin > 0.2
    assert supervise.start_ticks(int((tmp_path / "ready").read_text())) is None


def test_a_shell_that_ends_at_once_leaves_its_group_the_rest_of_the_grace(tmp_path: Path) -> None:
    inner = "trap 'sleep 0.3; touch saved; exit' TERM; touch ready; while :; do sleep 0.05; done"
    child = started(tmp_path, f'sh -c "{inner}"; true')
    ending = Ending(20)
    ending.begin()
    assert supervise.wait(child, ending) == -signal.SIGTERM
    assert supervise.left(child.pid)
    supervise.wait_for_group(child.pid, ending)
    assert (tmp_path / "saved").exists()


def test_a_stopped_group_is_told_all_the_same(tmp_path: Path) -> None:
    child = started(tmp_path, "touch ready; while :; do sleep 0.05; done")
    os.killpg(child.pid, signal.SIGSTOP)
    ending = Ending(20)
    ending.begin()
    assert supervise.wait(child, ending) == -signal.SIGTERM


def test_a_signal_begins_the_end_and_is_given_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stopping(5) as stopping:
        assert not stopping.begun
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.begun and stopping.signal == signal.SIGTERM
        first = stopping.deadline
        os.kill(os.getpid(), signal.SIGINT)
        assert (stopping.signal, stopping.deadline) == (signal.SIGINT, first)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_tree_is_ended_through_its_first_process(tmp_path: Path) -> None:
    tree = "import subprocess, sys, time; subprocess.Popen(['sleep', '60'], start_new_session=True); "
    tree += "open('ready', 'w').close(); time.sleep(60)"
    child = started(tmp_path, f'trap "" TERM; "{sys.executable}" -c "{tree}"')
    below = [pid for pid in supervise.descendants(child.pid) if pid != child.pid]
    assert len(below) == 2
    supervise.end_tree(child.pid, 0.2)
    assert child.wait(10) == -signal.SIGKILL
    limit = time.monotonic() + 10
    while any(supervise.start_ticks(pid) is not None for pid in below):
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "name"), [(0, None), (1, None), (None, None), (143, "TERM"), (137, "KILL"), (255, None)]
)
def test_signals_by_their_exit_codes(code: int | None, name: str | None) -> None:
    assert supervise.signal_name(code) == name
    assert supervise.exit_code(-9) == 137
