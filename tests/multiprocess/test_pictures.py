"""The picture of README and tutorial can be made anew, from the tutorial's own script and study.

The tutorial's commands run in their order in tests/lab/test_readme_tour.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def test_the_picture_is_made_by_the_tutorials_study(tmp_path: Path) -> None:
    words = ["--ranks", "1,2", "--repeats", "1", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "pictures"), *words],
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ET.parse(tmp_path / "out" / "speedup.svg").getroot().tag.endswith("svg")
    assert "speedup" in done.stdout and "allreduce" in done.stdout  # the table beside it


def test_the_picture_stands_in_readme_and_tutorial() -> None:
    assert (ROOT / "docs" / "pictures" / "speedup.svg").is_file()
    assert "docs/pictures/speedup.svg" in (ROOT / "README.md").read_text()
    assert "pictures/speedup.svg" in (ROOT / "docs" / "tutorial.md").read_text()
