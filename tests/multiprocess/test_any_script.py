"""Scripts in the styles that people write, none of which knows of hpcsynapse: what is recorded is what they did.

Every script has a stopwatch of its own. Rates are compared over windows between the same two steps, so both see the
same time whatever else runs here.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import HERE, Job, Starter, need

from hpcsynapse.recording import environment
from hpcsynapse.report.loading import DTYPE
from hpcsynapse.runs import records
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.timing import PAUSE, cause_of

SCRIPTS = HERE.parents[1] / "tests" / "multiprocess" / "scripts"
WINDOW = 5  # steps at each end between which windows are laid
# name: ranks, launcher, samples of a whole step
STYLES = {
    "plain": (1, "", 16),
    "ddp": (2, "", 16),
    "accumulation_amp": (1, "", 48),
    "gan": (1, "", 16),
    "own_batches": (1, "", 16),
    "with_accelerate": (1, "", 16),
    "with_lightning": (1, "", 16),
    "trainer_style": (1, "", 32),
    "with_horovod": (2, "mpirun", 16),
    "metric_logger": (1, "", 16),
}


def start(starter: Starter, patch: pytest.MonkeyPatch, script: Path, ranks: int, launcher: str) -> Job:
    """Start a script under what the rank's first process gives to it."""
    run = starter.create(script.stem.replace("_", "-"), ranks)
    (run.path / "evidence").mkdir(exist_ok=True)
    (run.path / "evidence" / "0").mkdir(exist_ok=True)
    for name, value in environment.variables(os.environ).items():
        patch.setenv(name, value)
    return starter.start(run, ranks, launcher, program=[str(script)])


def recorded(run: RunDirectory, rank: int = 0) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    """Return the steps of a rank, the causes of its pauses, and its description."""
    (part,) = [part for part in records.parts(run.timings) if part.header["rank"] == rank]
    found = np.frombuffer(part.read(), DTYPE)
    pauses = [cause_of(int(flags)) for flags in found["flags"] if flags & PAUSE]
    return found[found["flags"] & PAUSE == 0], pauses, part.header


def stopwatches(job: Job) -> list[list[tuple[float, int]]]:
    return [json.loads(line[10:]) for line in job.output().splitlines() if line.startswith("stopwatch ")]


def rates(steps: np.ndarray, own: list[tuple[float, int]]) -> tuple[float, float]:
    """Return samples/s of a rank as recorded and by the script's own stopwatch, between the same two steps."""
    ends, first, last = steps["start"] + steps["total"], WINDOW - 1, len(own) - WINDOW
    recorded = steps["samples"][first + 1 : last + 1].sum() / (ends[last] - ends[first])
    return float(recorded), sum(count for _, count in own[first + 1 : last + 1]) / (own[last][0] - own[first][0])


def ratio(steps: np.ndarray, own: list[tuple[float, int]]) -> float:
    """Return recorded rate / rate by the script's own stopwatch: the median over windows between the same steps."""
    ends = steps["start"] + steps["total"]
    assert len(ends) == len(own)
    found = []
    for first in range(WINDOW):
        for last in range(len(own) - WINDOW, len(own)):
            samples = sum(count for _, count in own[first + 1 : last + 1])
            by_script = samples / (own[last][0] - own[first][0])
            found.append(steps["samples"][first + 1 : last + 1].sum() / (ends[last] - ends[first]) / by_script)
    return float(statistics.median(found))


@pytest.mark.parametrize(
    "style", [pytest.param(style, marks=pytest.mark.horovod if style == "with_horovod" else ()) for style in STYLES]
)
def test_recorded_rates_are_those_of_the_stopwatch(
    starter: Starter, monkeypatch: pytest.MonkeyPatch, style: str, record_property: Any
) -> None:
    ranks, launcher, samples = STYLES[style]
    if style.startswith("with_"):
        pytest.importorskip(style[5:])
    if launcher:
        need("horovod")
    job = start(starter, monkeypatch, SCRIPTS / f"{style}.py", ranks, launcher)
    run = job.succeed(180.0)
    assert "hpcsynapse:" not in job.output()
    watches = stopwatches(job)
    assert len(watches) == ranks
    # Ranks in lock-step have like stopwatches: any may be compared with rank 0.
    steps, _, header = recorded(run)
    nearest = min(watches, key=lambda own: abs(ratio(steps, own) - 1))
    found = ratio(steps, nearest)
    record_property("ratio", found)
    record_property("rates", rates(steps, nearest))
    record_property("steps", len(steps))
    print(f"{style}: {len(steps)} steps, recorded rate / stopwatch {found:.5f}")
    assert abs(found - 1) < 0.02
    assert statistics.mode(int(count) for count in steps["samples"]) == samples
    assert [int(count) for count in steps["samples"]] == [count for _, count in watches[0]]
    assert header["recorded"] == "auto"
    spent = sum(steps[phase] for phase in ("data", "forward", "backward", "communicate", "update"))
    assert (spent <= steps["total"] + 1e-4).all()
    if ranks > 1:
        assert header["engine"] == style.replace("with_", "")
        assert steps["communicate"].sum() > 0
