"""What a run costs beside its training: job script, launcher, wrapper and imports, by parts, for one step on one rank.

    python benchmarks/startup.py [--rounds 9]

Whole processes run in turns, in random order: a script of one's own that imports torch and makes one step; the job
script of a run that does nothing, that runs this script, and that makes the same step with the built-in trainer.
Compared is processor time (user and system, children included) as differences round by round. The job scripts are
those of scheduler `local`; those of queues start the same programs. What the command line costs is measured by
benchmarks/command_line.py. Goal: a job script takes at most 0.5 s and one Python start more than the script alone.
Writes benchmarks/results/startup.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import paired

from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.submission.prepare import prepare

RESULTS = Path(__file__).parent / "results" / "startup.json"
ONE_STEP = """
import torch
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loss = torch.nn.functional.cross_entropy(model(torch.randn(32, 3, 32, 32)), torch.randint(10, (32,)))
loss.backward()
optimizer.step()
"""
MODEL = """
import torch
def linear(shape=(3, 32, 32), classes=10):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
"""
BARE, NOTHING, OWN, TRAINER = (
    "the script alone",
    "job script: true",
    "job script: the script",
    "job script: the trainer",
)


def job(folder: Path, numbers: itertools.count[int], **description: object) -> paired.Usage:
    """Make a run and carry out its job script; return what that took."""
    spec = JobSpec(name=f"run-{next(numbers)}", queue=QueueOptions(scheduler="local"), **description)
    _, script = prepare(spec, folder / "runs").write()
    return paired.process(["bash", str(script)], folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder, numbers = Path(name), itertools.count()
        os.chdir(folder)
        Path("one_step.py").write_text(ONE_STEP)
        Path("models.py").write_text(MODEL)
        train = TrainSpec(model="models:linear", data="synthetic", steps=1, validate_every=0, checkpoint_every=0)
        script = [sys.executable, "one_step.py"]
        found = paired.in_turns(
            {
                "python -c pass": partial(paired.process, [sys.executable, "-c", "pass"], folder),
                "python -c 'import torch'": partial(paired.process, [sys.executable, "-c", "import torch"], folder),
                BARE: partial(paired.process, script, folder),
                f"{BARE} (control)": partial(paired.process, script, folder),
                NOTHING: partial(job, folder, numbers, command=("true",)),
                OWN: partial(job, folder, numbers, command=tuple(script)),
                TRAINER: partial(job, folder, numbers, train=train),
            },
            rounds,
        )
        os.chdir("/")
    cpu = {name: [one.cpu for one in usages] for name, usages in found.items()}
    rows = {name: paired.median_interval(values) for name, values in cpu.items()}
    beyond = {name: paired.difference(cpu[name], cpu[BARE]) for name in (f"{BARE} (control)", OWN, TRAINER)}
    for name, value in rows.items():
        more = f"   beyond the script {paired.shown(beyond[name])} s" if name in beyond else ""
        print(f"{name:28} {paired.shown(value)} s{more}")
    about = {**paired.about(), "rounds": rounds, "goal_s": 0.5}
    RESULTS.write_text(json.dumps({**about, "cpu_s": rows, "beyond_s": beyond}, indent=1) + "\n")


if __name__ == "__main__":
    main()
