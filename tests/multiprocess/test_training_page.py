"""Every command of docs/training.md, in its order, on this machine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import HERE, LIMIT

PAGE = HERE.parents[1] / "docs" / "training.md"


@pytest.mark.slow
def test_commands_of_the_page(workdir: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    output = ""
    for line in "".join(blocks).splitlines():
        words = [sys.executable, "-m", *shlex.split(line)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, cwd=workdir, env=environment)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        output += done.stdout
    assert "single,32,10" in output  # without the steps of warm-up
