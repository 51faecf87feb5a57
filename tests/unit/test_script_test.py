"""scripts/test with stand-ins for what it runs: what comes first, what fails the run, what is said at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# python: Horovod is missing until the stand-in of scripts/setup has "installed" it; a session's exit code is given.
PYTHON = """
case "$*" in
  *find_spec*) [ ! -e installed ] ;;
  *pytest*)
    echo "pytest $*" >> called
    while [ $# -gt 0 ]; do [ "$1" != --junitxml ] || report=$2; shift; done
    mkdir -p .venv/log
    case "${report:-}" in
      *without-horovod.xml) code=$FIRST; counts='errors="0" failures="1" skipped="2" tests="10"' ;;
      *) code=$SECOND; counts='errors="1" failures="0" skipped="0" tests="5"' ;;
    esac
    [ -z "${report:-}" ] || echo "<testsuites><testsuite name=\\"pytest\\" $counts time=\\"1\\">" > "$report"
    exit "$code" ;;
esac
"""
STAND_INS = {
    ".venv/bin/python": PYTHON,
    ".venv/bin/ruff": 'echo "ruff $*" >> called\n',
    ".venv/bin/mypy": 'echo "mypy $*" >> called\nexit "$MYPY"\n',
    "scripts/setup": 'echo "setup $*" >> called\n[ "$1" = base ] || touch installed\n',
    "scripts/horovod-wheel": 'echo "the compiler says no"\nexit "$BUILD"\n',
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in STAND_INS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}")
        path.chmod(0o755)
    for name in ("g++", "make", "cmake"):
        (tmp_path / ".venv/bin" / name).symlink_to("/bin/true")
    (tmp_path / ".venv/log").mkdir()
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts" / "test")
    return tmp_path


def run(project: Path, *arguments: str, **codes: int) -> tuple[int, str, list[str]]:
    """Return the exit code, what was printed, and the commands that were called."""
    given = {name: str(codes.get(name.lower(), 0)) for name in ("FIRST", "SECOND", "BUILD", "MYPY")}
    path = f"{project / '.venv/bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["scripts/test", *arguments],
        cwd=project,
        env={**os.environ, **given, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, (project / "called").read_text().splitlines()


def sessions(called: list[str]) -> list[str]:
    return [line.partition(" -m pytest ")[2] for line in called if line.startswith("pytest")]


def test_two_sessions_while_horovod_is_built_and_their_sum(project: Path) -> None:
    code, said, called = run(project)
    first, second = sessions(called)
    assert code == 0
    assert "-m not horovod" in first and second.endswith("-m horovod")
    assert called.index("setup base") < called.index("ruff check .") < called.index("setup test")
    assert "15 tests, 2 failed, 2 skipped" in said.splitlines()[-1]


@pytest.mark.parametrize(("first", "second", "code"), [(1, 0, 1), (0, 1, 1), (1, 1, 1), (0, 4, 4)])
def test_a_failure_in_either_session_fails_the_run(project: Path, first: int, second: int, code: int) -> None:
    found, _, called = run(project, first=first, second=second)
    assert (found, len(sessions(called))) == (code, 2)


def test_an_interrupted_session_is_the_last(project: Path) -> None:
    code, _, called = run(project, first=2)
    assert (code, len(sessions(called))) == (2, 1)


def test_a_failed_build_fails_the_run_after_the_first_session(project: Path) -> None:
    code, said, called = run(project, build=3)
    assert (code, len(sessions(called))) == (3, 1)
    assert "the Horovod build failed (exit code 3)" in said and "the compiler says no" in said


def test_a_linter_that_fails_is_the_last_thing(project: Path) -> None:
    code, said, called = run(project, mypy=1)
    assert code == 1 and "mypy failed (exit code 1)" in said and not sessions(called)


def test_one_session_where_horovod_is_there_or_arguments_choose(project: Path) -> None:
    code, _, called = run(project, "tests/unit", second=1)
    assert code == 1 and sessions(called) == ["-rfEs -n 3 --dist loadfile tests/unit"]
    (project / "called").unlink()
    assert sessions(run(project)[2]) == ["-rfEs -n 3 --dist loadfile"]


def test_quick_needs_no_horovod(project: Path) -> None:
    code, _, called = run(project, "--quick")
    assert code == 0 and "setup test" not in called
    folders = "--ignore=tests/lab --ignore=tests/multiprocess"
    assert sessions(called) == [f"-rfEs -n 2 --dist loadfile {folders} -m not slow and not multiprocess and not lab"]
