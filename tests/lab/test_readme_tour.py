"""Every command of the README's tour and of docs/, in their order, on the Slurm lab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# docs/index.md is the README once more.
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "index.md")]
BLOCKS = [block for page in PAGES for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)]
# A Python block that begins with a name is a file that the commands use.
FILES = [
    found for page in PAGES for found in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page.read_text(), re.DOTALL)
]
COMMANDS = [line[2:] for block in BLOCKS for line in block.splitlines()]


def test_every_line_of_a_console_block_is_a_command() -> None:
    assert len(COMMANDS) >= 15
    for block in BLOCKS:
        assert all(line.startswith("$ hpcsynapse ") for line in block.splitlines())


@pytest.mark.lab
@pytest.mark.slow
def test_the_tour(slurm_lab: Any, tmp_path: Path) -> None:
    environ = {
        **slurm_lab.env,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # The lab's GPUs are files, as README says of it.
    (tmp_path / "hpcsynapse.toml").write_text('[train]\ndevice = "cpu"\n')
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    printed = {}
    for command in COMMANDS:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed[command] = done.stdout
    assert (tmp_path / "scaling.csv").read_text().count("\n") == 3
    assert "strong" in (tmp_path / "scaling.csv").read_text()
    assert (tmp_path / "steps.csv").read_text().count("\n") > 5
    assert "rank 1 sees GPU 1" in "".join(printed.values())
    assert re.search(r"^two-nodes +\d+ +2x2 +FINISHED ", printed["hpcsynapse status"], re.MULTILINE)
    slurm_lab.wait_idle()
