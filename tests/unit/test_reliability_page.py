"""docs/reliability.md: its figures are those that were measured, and its tests are there."""

from __future__ import annotations

import csv
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_the_figures_are_those_that_were_measured() -> None:
    with (ROOT / "benchmarks" / "results" / "checkpoints.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["megabytes"] for row in rows] == ["5.0", "100.0", "400.0"]
    for row in rows:
        size = f"{float(row.pop('megabytes')):g}"
        assert f"| {' | '.join((size, *row.values()))} |\n" in PAGE
    shares = [round(100 * float(row["copy_s"]) / float(row["at_once_s"])) for row in rows]
    assert (
        f"For 400 MB steps stood still for {shares[2]} % of what a save at once takes, for 5 MB for {shares[0]} %"
        in PAGE
    )
