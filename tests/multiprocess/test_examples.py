"""The example scripts run as they are, under the variables that every rank is given, and record their steps."""

from __future__ import annotations

import pytest
from jobs import HERE, Starter, need

from hpcsynapse.runs import records

EXAMPLES = HERE.parents[1] / "examples"


@pytest.mark.parametrize(("engine", "launcher"), [("ddp", ""), ("horovod", "mpirun")])
def test_script(starter: Starter, monkeypatch: pytest.MonkeyPatch, engine: str, launcher: str) -> None:
    need(engine)
    pytest.importorskip("sklearn")
    monkeypatch.setenv("EPOCHS", "2")
    run = starter.create("script", 2, engine=engine)
    job = starter.start(run, 2, launcher, program=[str(EXAMPLES / f"{engine}_script.py")])
    job.succeed()
    assert "epoch 1: loss" in job.output()
    parts = records.parts(run.timings)
    assert sorted(part.header["rank"] for part in parts) == [0, 1]
    for part in parts:
        assert part.count == 2 * (899 // 32)
        assert (part.header["engine"], part.header["world_size"]) == (engine, 2)
    last = records.last_record(run.timings)
    assert last is not None
    assert (last["samples"], last["epoch"]) == (32, 1)
    assert last["loss"] < 2.0
