"""Single calls on a run's directory fail: a stratified part of what benchmarks/failing_calls.py goes through."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from failing_calls import PARTS, Part, cases, make_run, stratified, wrong
from jobs import missing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("strace") is None:
        missing("strace is not installed")
    return make_run(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("part", [part for part in PARTS if part.name != "submit"], ids=lambda part: part.name)
def test_no_failing_call_is_passed_over_in_silence_or_waited_for(part: Part, made: Path, tmp_path: Path) -> None:
    found = list(cases(part, made, tmp_path))
    assert len(found) > 20, "the program works on the directory"
    for case in stratified([one for one in found if one.error != "slow"], 1, seed=3)[:2]:
        assert not (problem := wrong(case, made, tmp_path)), (case, problem)


def test_a_fault_that_is_hidden_is_found(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a program that writes its file, and looks away from what goes wrong."""
    looks_away = "with contextlib.suppress(OSError):\n    (pathlib.Path(sys.argv[1]) / 'x').write_text('y')\n"
    silent = f"import contextlib, pathlib, sys\n{looks_away}"
    part = Part("silent", lambda run: ["-c", silent, str(run)], lambda run: (run / "x").is_file())
    monkeypatch.setattr("failing_calls.PARTS", (part,))
    problems = {wrong(case, made, tmp_path) for case in cases(part, made, tmp_path) if case.call == "openat"}
    assert "its work is not done, and it says nothing" in problems
