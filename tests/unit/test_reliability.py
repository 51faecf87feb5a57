"""The figures of docs/reliability.md are those that the benchmarks have left."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs" / "reliability.md").read_text().split())
RESULTS = ROOT / "benchmarks" / "results"


def test_kills() -> None:
    told = json.loads((RESULTS / "soak.json").read_text())
    trials = told["trials"]
    assert told["trials_made"] == len(trials) and told["wrong"] == sum(bool(one["wrong"]) for one in trials)
    back = sum(one["state"] == "FINISHED" for one in trials if one["hit"])
    assert f"{len(trials)} trials, {told['hit']} of which met their process; {told['wrong']} ended wrongly" in PAGE
    assert f"{back} of them finished" in PAGE
    assert f"{told['seconds_to_the_end_median']:.0f} s from the kill to the end of the run" in PAGE


def test_failing_calls() -> None:
    told = json.loads((RESULTS / "failing_calls.json").read_text())
    assert f"{told['tried']:,} of {told['cases']:,} cases, {len(told['wrong'])} of them wrong" in PAGE


def test_ten_thousand_ranks() -> None:
    told = json.loads((RESULTS / "ten_thousand_ranks.json").read_text())
    assert told["ranks"] == 10_000
    for task, figures in told["tasks"].items():
        assert f"| {task} | {figures['cpu_s']:.1f} | {figures['seconds']:.0f} | {figures['peak_mb']} |" in PAGE
