"""What `--record auto` costs a program: time of a step with and without it, in one process by turns.

    python benchmarks/recording.py [--rounds 1000] [--json FILE]

Of every round three blocks of ten steps follow one another in any order: recorded, not recorded, and not recorded again
(the control). They are 10 ms apart, so what else the machine does disturbs all three alike. The cost of a round is its
recorded block less the mean of the two others; told are the median over rounds and its 95 % interval (of the order
statistics, which asks for no distribution). Processor time is that of the thread. Where nothing is recorded the
wrappers pass everything on. Steps of 10 ms sleep, and their cost is wall time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcsynapse.recording import environment

BLOCK = 10  # steps
GOAL = 20.0  # us of processor time a step
SCRIPT = f"""
import gc, random, sys, time, torch
from torch.utils.data import DataLoader, TensorDataset

rounds, pause = int(sys.argv[1]), float(sys.argv[2])
torch.set_num_threads(1)
data = TensorDataset(torch.randn(12000, 16), torch.randint(0, 4, (12000,)))
model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
clock = time.perf_counter if pause else time.thread_time
guard, = [thing for thing in gc.get_objects() if type(thing).__module__ == "_hpcsynapse_recording.guard"]
draw = random.Random(0)

def steps():
    # The guard is looked at before a batch is asked for: a block begins and ends behind an update.
    while True:
        guard.on = True
        for inputs, targets in DataLoader(data, batch_size=4):
            optimizer.zero_grad()
            if pause:
                time.sleep(pause)
            loss = torch.nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            yield

stream = steps()
for _ in range(50):
    next(stream)
for turn in range(rounds):
    order, times = draw.sample(range(3), 3), [0.0] * 3
    for kind in order:
        guard.on = kind == 0
        begin = clock()
        for _ in range({BLOCK}):
            next(stream)
            guard.on = kind == 0  # a new epoch is recorded at its begin
        times[kind] = (clock() - begin) / {BLOCK} * 1e6
    print(*times)
guard.on = True
"""


# Steps of which nothing is left but what the recording wraps: the least that it can cost, its code and data at hand.
ALONE = """
import gc, sys, time, torch
from torch.utils.data import DataLoader

class Optimizer(torch.optim.Optimizer):
    def __init__(self): super().__init__([torch.zeros(1, requires_grad=True)], {})
    def step(self): pass

loss, optimizer = torch.zeros((), requires_grad=True) * 1, Optimizer()
guard, = [thing for thing in gc.get_objects() if type(thing).__module__ == "_hpcsynapse_recording.guard"]
step = type(optimizer).step
torch.autograd.backward.__closure__[[*torch.autograd.backward.__code__.co_freevars].index("backward")].cell_contents = (
    lambda *_arguments: None)
for turn in range(int(sys.argv[1])):
    times = []
    for guard.on in (True, False):
        begin = time.thread_time()
        for _batch in DataLoader(range(100), batch_size=1, collate_fn=lambda batch: batch):
            torch.autograd.backward(loss)
            step(optimizer)
        times.append((time.thread_time() - begin) / 100 * 1e6)
    print(*times, times[1])
guard.on = True
"""


def measure(rounds: int, pause: float, script: str = SCRIPT) -> list[tuple[float, float, float]]:
    """Return, of every round, us a step: recorded, not recorded, not recorded again."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "evidence" / "0").mkdir(parents=True)
        environ = {**os.environ, "RANK": "0", "WORLD_SIZE": "1", "HPCSYNAPSE_RUN_DIR": folder, "OMP_NUM_THREADS": "1"}
        environ.pop("HPCSYNAPSE_ATTEMPT", None)
        environ.update(environment.variables(environ))
        command = [sys.executable, "-c", script, str(rounds), str(pause)]
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
        assert list(Path(folder).rglob("*.steps"))
    return [(on, off, again) for on, off, again in (map(float, line.split()) for line in done.stdout.splitlines())]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median with its 95 % interval by ranks."""
    ordered, count = sorted(values), len(values)
    half = 1.96 * math.sqrt(count) / 2
    low, high = (min(max(round(count / 2 + sign * half), 0), count - 1) for sign in (-1, 1))
    return statistics.median(ordered), ordered[low], ordered[high]


def result(name: str, turns: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Return the figures of one kind of steps, in us."""
    found: dict[str, Any] = {"name": name, "rounds": len(turns), "step": statistics.median(off for _, off, _ in turns)}
    for key, values in (
        ("cost", [on - (off + again) / 2 for on, off, again in turns]),
        ("control", [again - off for _, off, again in turns]),
    ):
        median, low, high = interval(values)
        found |= {key: median, f"{key}_low": low, f"{key}_high": high}
        print(f"{name}: {key} {median:.1f} us a step, 95 % interval {low:.1f} to {high:.1f}")
    print(f"{name}: a step without recording takes {found['step']:.0f} us")
    return found


def main() -> None:
    """Measure both kinds of steps, print them, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    before = os.getloadavg()[0]
    alone = measure(given.rounds, 0.0, ALONE)
    fastest = min(on for on, _, _ in alone) - min(off for _, off, _ in alone)
    print(
        f"called alone, without the work of a step: {fastest:.1f} us of processor time (fastest of {len(alone)} rounds)"
    )
    results = [
        {"name": "called alone", "rounds": len(alone), "cost": fastest},
        result("processor time", measure(given.rounds, 0.0)),
        result("wall time, steps of 10 ms", measure(max(10, given.rounds // 10), 0.01)),
    ]
    told = {
        "benchmark": "recording",
        "time": time.time(),
        "machine": {"python": sys.version.split()[0], "cpus": os.cpu_count(), "load": [before, os.getloadavg()[0]]},
        "goal_microseconds": GOAL,
        "results": results,
    }
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
