"""benchmarks/trainer.py makes the trainer's loop by hand: it still does when the loop has changed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = next(
    folder / "benchmarks" / "trainer.py" for folder in Path(__file__).parents if (folder / "benchmarks").is_dir()
)


@pytest.mark.slow
def test_both_loops_make_steps(tmp_path: Path) -> None:
    results = tmp_path / "trainer.json"
    words = ["--engine", "none", "--width", "16", "--pairs", "2", "--block", "0.01", "--results", str(results)]
    done = subprocess.run([sys.executable, str(BENCHMARK), *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(results.read_text())["rows"]
    assert row["engine"] == "none" and row["steps_a_block"] >= 5
    assert row["hand_cpu_s"]["median"] > 0 and row["ratio_cpu"]["low"] > 0
