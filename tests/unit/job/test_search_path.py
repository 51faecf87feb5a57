"""No file of the working directory takes the place of a module in what job scripts call, though PYTHONPATH names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Not those that `python -m` itself loads first: contextlib, collections, functools, operator and what these need.
NAMES = ("json", "re", "typing", "socket", "signal", "itertools", "io", "enum", "string", "pathlib", "subprocess")


@pytest.mark.parametrize("path", [":/nowhere", ".", "{here}", "/nowhere:"])
def test_modules_of_the_working_directory_are_passed_over(tmp_path: Path, path: str) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r})\n")
    environment = {**os.environ, "PYTHONPATH": path.format(here=tmp_path)}
    command = [sys.executable, "-P", "-m", "hpcsynapse.job", "hostlist", "n[1-3]"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["n1", "n2", "n3"], done.stderr
    assert not (tmp_path / "executed").exists(), (tmp_path / "executed").read_text()
