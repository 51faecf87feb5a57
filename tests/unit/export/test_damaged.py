"""Whatever is wrong in the files of a run, its timeline and its exports come out or say what is wrong; no traceback."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress

import pytest
from trace_reading import read_perfetto

from hpcsynapse.errors import HpcSynapseError
from hpcsynapse.export.openmetrics import openmetrics
from hpcsynapse.export.scalars import scalars_of
from hpcsynapse.export.tensorboard import write_events
from hpcsynapse.files import append_json, write_json
from hpcsynapse.report.timeline import write_timeline
from hpcsynapse.runs.clocks import Measured, add_measured, begin_clock_file, clock_file
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.telemetry import Column, TelemetryWriter
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.submission.status import statuses
from hpcsynapse.timing import StepRecorder

pytest.importorskip("perfetto")
T0 = 1.75e9
ODD = (b"\x00", b"\xff", b"null", b"-1", b"1e999", b'"', b"}", b"\n", b"9" * 30, b"nan", b"[[[[", b"true", b"{}")


@pytest.fixture
def whole(tmp_path):
    """A run of two nodes with every file that timeline and exports read."""
    run = RunDirectory.create(tmp_path / "whole", JobSpec(name="run"))
    for rank in range(2):
        with StepRecorder(run.timings, rank=rank, node_rank=rank, host=f"n{rank}", strategy="allreduce") as recorder:
            for step in range(20):
                recorder.write(step, 0, T0 + step, 0.1, 0.2, 0.2, 0.3, 0.1, 1.0, 8, 0.5)
    path = clock_file(run.timings, 1, "0")
    begin_clock_file(path, attempt="0", node_rank=1, host="n1", reference="n0")
    for when in (T0, T0 + 9, T0 + 20):
        add_measured(path, Measured(when, 0.001, 1e-5))
    run.telemetry.mkdir()
    about = {"node_rank": 0, "host": "n0", "started": T0}
    writer = TelemetryWriter(run.telemetry / "n0.0.telemetry", [Column("cpu", "<f4", "s", "time")], about)
    for second in range(20):
        writer.add(T0 + second, 1.0, [second])
    writer.close()
    for state, when in (("SETUP", -3), ("TRAINING", 0), ("FAILED", 20)):
        append_json(run.history, {"time": T0 + when, "state": state, "reason": "r"})
    append_json(run.metrics, {"time": T0 + 5, "step": 5, "samples": 80, "accuracy": 0.5})
    append_json(run.drift, {"time": T0 + 5, "step": 5, "drift": 0.5})
    write_json(run.status, {"state": "TRAINING", "step": 5, "steps": 20, "metrics": {"accuracy": 0.5}, "attempt": "0"})
    run.evidence("0").mkdir(parents=True)
    for rank in range(2):
        told = {"rank": rank, "host": f"n{rank}", "code": 3, "reason": "exit code 3", "time": T0 + 20 + rank}
        write_json(run.failure("0", rank), told)
    run.request_stop("enough")
    return run


def damaged(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    kind = rng.randrange(4)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + rng.choice(ODD) + content[place:]
    if kind == 2:
        return content[:place] + rng.choice(ODD) + content[place + rng.randrange(40) :]
    return content[:place] + rng.randbytes(rng.randrange(1, 9)) + content[place + 1 :]


def use(run: RunDirectory, target) -> None:
    for name in ("t.pftrace", "t.json"):
        try:
            write_timeline(run, target / name)
        except HpcSynapseError:
            assert not (target / name).exists()
    if (target / "t.pftrace").exists():
        read_perfetto(target / "t.pftrace")
    with suppress(HpcSynapseError):
        write_events(scalars_of(run), target / "tb")
    assert openmetrics(statuses([run])).endswith("# EOF\n")


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_breaks_nothing(whole, tmp_path, seed) -> None:
    rng = random.Random(seed)
    files = sorted(path.relative_to(whole.path) for path in whole.path.rglob("*") if path.is_file())
    for number in range(len(files)):
        copy = tmp_path / f"copy-{number}" / "run"
        shutil.copytree(whole.path, copy)
        path = copy / files[number % len(files)]
        path.write_bytes(damaged(path.read_bytes(), rng))
        try:
            use(RunDirectory(copy), copy.parent)
        except Exception as error:
            raise AssertionError(f"{path.relative_to(copy)}: {path.read_bytes()[-400:]!r}") from error
        shutil.rmtree(copy.parent)
