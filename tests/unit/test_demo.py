"""The first of the two commands, as a newcomer runs it."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_trains_digits_and_shows_the_table(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "demo"],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = re.search(r"(/\S+/scaling\.csv)", done.stdout)
    assert table is not None, done.stdout
    with Path(table[1]).open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["ranks"], row["scaling"], row["baseline_ranks"]) for row in rows] == [
        ("1", "strong", "1"),
        ("2", "strong", "1"),
    ]
    assert all(float(row["accuracy"]) >= 0.97 for row in rows)
    assert float(rows[0]["speedup"]) == 1.0
    assert float(rows[1]["efficiency"]) == pytest.approx(float(rows[1]["speedup"]) / 2)
    for part in ("speedup", "efficiency", "accuracy"):
        assert part in done.stdout
