"""Kills drawn by seed, as benchmarks/soak.py makes by the hundred: the run ends as one that was left alone."""

import os
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TRIALS = int(os.environ.get("HPCSYNAPSE_KILLS", "2"))  # 24 take some ten minutes
SEED = int(os.environ.get("HPCSYNAPSE_SEED", "1"))


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    import soak

    return soak


def test_kills_of_all_kinds(slurm_lab, user, soak):
    user.script("slow.py", soak.SLOW_MODEL)
    user.script("parameters.py", soak.PARAMETERS)
    numbers = range(0, TRIALS * 5, 5)  # each with another signal, and another strategy
    trials = [soak.drawn(SEED, number) for number in numbers]
    expected = soak.references(user, {trial["strategy"] for trial in trials})
    assert len(set(expected.values())) > 1, "another seed has other parameters"
    done = [soak.make(slurm_lab, user, trial, expected) for trial in trials]
    assert not [one for one in done if one["wrong"]]
    assert any(one["hit"] for one in done)
    slurm_lab.wait_idle()
