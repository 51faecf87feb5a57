"""Hosts of LoadLeveler's tasks from its two variables, one of which ends at 128 tasks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hpcsynapse.cli.init import look
from hpcsynapse.errors import PlacementError
from hpcsynapse.schedulers.loadleveler_hosts import task_hosts
from hpcsynapse.submission.detect import detect_scheduler


def test_the_list_is_enough_for_few_tasks() -> None:
    environ = {"LOADL_PROCESSOR_LIST": "n1 n1 n2 n2 ", "LOADL_TOTAL_TASKS": "4"}
    assert task_hosts(environ) == ["n1", "n1", "n2", "n2"]


def test_the_file_is_needed_for_many(tmp_path: Path) -> None:
    hosts = [f"n{task // 16}" for task in range(256)]
    environ = {"LOADL_PROCESSOR_LIST": " ".join(hosts[:128]), "LOADL_TOTAL_TASKS": "256"}
    with pytest.raises(PlacementError, match=r"ends at 128 tasks, names 128 hosts of 256 tasks.*job_type"):
        task_hosts(environ)
    (tmp_path / "hosts").write_text("\n".join(hosts) + "\n")
    assert task_hosts({**environ, "LOADL_HOSTFILE": str(tmp_path / "hosts")}) == hosts


def test_neither_and_an_unreadable_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match="names 0 hosts"):
        task_hosts({})
    with pytest.raises(PlacementError, match="No such file"):
        task_hosts({"LOADL_HOSTFILE": str(tmp_path / "none")})


def test_a_job_script_reads_them_line_by_line() -> None:
    command = [sys.executable, "-m", "hpcsynapse.job", "hosts", "loadleveler"]
    done = subprocess.run(command, env={"LOADL_PROCESSOR_LIST": "a a b"}, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("a\nb\n", 0)
    done = subprocess.run(command, env={}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("hpcsynapse: LOADL_PROCESSOR_LIST")


@pytest.mark.parametrize(
    ("commands", "found"),
    [
        ((), "local"),
        (("llsubmit", "llq"), "loadleveler"),
        (("llsubmit",), "local"),
        (("mnsubmit", "mnq", "llsubmit", "llq"), "minotauro"),
    ],
)
def test_a_queue_is_told_by_its_commands(
    commands: tuple[str, ...], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in commands:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert detect_scheduler() == found
    assert look({}, asks=False)["queue"]["scheduler"] == found
