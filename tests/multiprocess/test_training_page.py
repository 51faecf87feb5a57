"""Every command of docs/training.md, and those of docs/strategies.md that need no queue, on this machine."""

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
    text = PAGE.read_text() + PAGE.with_name("strategies.md").read_text()
    blocks = re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL)
    output = ""
    lines = [["-c", text] for kind, text in blocks if kind == "python"]
    lines += [["-m", *shlex.split(line)] for kind, text in blocks if kind == "sh" for line in text.splitlines()]
    for line in lines:
        words = [sys.executable, *line]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, cwd=workdir, env=environment)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        output += done.stdout
    assert "single,32,10" in output  # without the steps of warm-up
    told = re.search(r"^gpt,([0-9.]+),([0-9]+)", output, re.MULTILINE)
    assert told is not None and float(told[1]) > 0 and int(told[2]) > 6 * 8 * 32 * 20_000
