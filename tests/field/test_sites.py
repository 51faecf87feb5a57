"""Invented centres through `check`, `render` and bash -n, each with what its job file must say (see README.md)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from invented_sites import Expected, invented_sites, write_site

from hpcsynapse.cli.main import main

SITES = invented_sites()
REQUEST = ("--nodes", "2", "--gpus", "2", "--name", "a")


def test_there_are_a_dozen_of_them() -> None:
    assert len(SITES) >= 12


def code_of(argv: list[str]) -> int:
    """Run hpcsynapse; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    return int(ended.value.code or 0)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with commands of a queue that takes everything, and of the launchers."""
    for name in ("sbatch", "sinfo", "squeue", "srun"):
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "expected"), SITES.items(), ids=SITES)
def test_a_site_is_checked_and_rendered(
    name: str, expected: Expected, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = write_site(name, workdir)
    assert code_of(["check", "--site", site, *REQUEST, "--", "true"]) == expected.exit_code
    told = capsys.readouterr()
    for text in expected.says:
        assert text in told.out + told.err
    if not (expected.has or expected.lacks):
        return
    code_of(["render", "--site", site, *REQUEST, "--", "true"])
    script = capsys.readouterr().out
    for text in expected.has:
        assert text in script
    for text in expected.lacks:
        assert text not in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, timeout=30, check=False).returncode == 0
