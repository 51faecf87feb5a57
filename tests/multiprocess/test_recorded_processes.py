"""Which processes of a rank are recorded: one, once, and never a child in its name."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from jobs import Starter

from hpcsynapse.recording import environment
from hpcsynapse.runs import records

TRAIN = """
import torch
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def step():
    optimizer.zero_grad()
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
"""
PROGRAMS = {
    "fork": TRAIN
    + """
import os, sys
for _ in range(5):
    step()
child = os.fork()
for _ in range(3):
    step()
if not child:
    sys.exit()
os.waitpid(child, 0)
""",
    "spawn": """
import torch.multiprocessing as mp

def work(_index):
    import train
    train.step()

if __name__ == "__main__":
    mp.spawn(work, nprocs=1)
""",
    "own": TRAIN
    + """
from hpcsynapse.timing import StepRecorder
step()
step()
with StepRecorder() as recorder:
    for _ in range(4):
        with recorder.step(samples=8):
            step()
""",
    "within": TRAIN
    + """
import subprocess, sys
for _ in range(3):
    step()
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "again"], check=True)
""",
}


@pytest.fixture
def counts(starter: Starter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    def start(name: str) -> tuple[list[int], str, str]:
        """Return the steps in every file, what the program printed, and the word that is left for status."""
        (tmp_path / "train.py").write_text(TRAIN)
        (tmp_path / f"{name}.py").write_text(PROGRAMS[name])
        run = starter.create(f"run-{name}")
        run.evidence("0").mkdir(parents=True)
        for key, value in environment.variables(os.environ).items():
            monkeypatch.setenv(key, value)
        job = starter.start(run, program=[str(tmp_path / f"{name}.py")])
        job.succeed(180.0)
        word = environment.remark_path(run.path, "0", 0)
        return [part.count for part in records.parts(run.timings)], job.output(), word.read_text()

    return start


def test_a_forked_child_writes_nothing_not_even_what_its_parent_had_not_written_yet(counts) -> None:  # type: ignore[no-untyped-def]
    assert counts("fork")[0] == [8]


def test_a_process_that_multiprocessing_started_is_no_rank(counts) -> None:  # type: ignore[no-untyped-def]
    files, _, word = counts("spawn")
    assert files == []
    assert "in a process that multiprocessing started" in word


def test_a_program_that_records_itself_is_recorded_once(counts) -> None:  # type: ignore[no-untyped-def]
    files, output, _ = counts("own")
    assert files == [4]
    assert "hpcsynapse:" not in output


def test_a_program_within_a_program_does_not_take_its_place(counts) -> None:  # type: ignore[no-untyped-def]
    files, output, _ = counts("within")
    assert files == [3]
    assert output.count("another process records the steps of rank 0") == 1


WAYS = {
    "a shell's wrapper": ["-c", "import os, sys; os.execvp('bash', ['bash', '-c', sys.argv[1]])", "{shell}"],
    "python -m": ["-m", "made.train_once"],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "{script}"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_script_is_recorded_however_it_is_started(
    starter: Starter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    script = tmp_path / "made" / "train_once.py"
    script.parent.mkdir()
    script.write_text(TRAIN + "\nfor _ in range(4):\n    step()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run = starter.create("ways")
    run.evidence("0").mkdir(parents=True)
    for key, value in environment.variables(os.environ).items():
        monkeypatch.setenv(key, value)
    python, name = shlex.quote(sys.executable), shlex.quote(str(script))
    shell = f"cd / && export SOMETHING=1; ulimit -c 0; time {python} {name} | cat"
    program = [word.format(shell=shell, script=script) for word in WAYS[way]]
    job = starter.start(run, program=program)
    job.succeed(600.0)
    found = {part.header["rank"]: part.count for part in records.parts(run.timings)}
    assert found == ({0: 4, 1: 4} if way == "torchrun" else {0: 4}), job.output()
