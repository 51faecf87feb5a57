"""How costs grow with size: processor time over sizes, and the exponent between the two largest of them.

    eval "$(scripts/slurm-lab/up)"; python benchmarks/growth.py [--rounds 5]

Sizes take turns in random order; printed are medians of the rounds with 95 % intervals, children included. An exponent
of 1 is linear; fixed costs make it smaller at small sizes. Without a queue that answers the arrays are left out; their
tasks are held, and cancelled in the end. Writes benchmarks/results/growth.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import paired
from command_line import HPCSYNAPSE, queue_answers
from rendering import description
from report import BASELINE, REPORT, Case, write_run
from status import runs_and_queue

from hpcsynapse.submission.render import render
from hpcsynapse.submission.status import statuses

RESULTS = Path(__file__).parent / "results" / "growth.json"
RANKS = 64
Programs = dict[int, Callable[[], float]]


def here(work: Callable[[], object]) -> float:
    """Return the processor time (s) of work in this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def there(command: list[str], folder: Path) -> float:
    """Return the processor time (s) of a command."""
    return paired.process(command, folder).cpu


def rendered(count: int) -> None:
    """Describe and render so many jobs."""
    for number in range(count):
        render(description(number, 4, 4), Path("/runs/x"))


def arrays(folder: Path) -> Programs:
    """Return arrays of held tasks."""
    names = itertools.count()

    def array(count: int) -> float:
        seeds = ",".join(map(str, range(1, count + 1)))
        words = [
            "--jobs",
            "array",
            "--no-chain",
            "--nodes",
            "1",
            "--vary",
            f"train.seed={seeds}",
            "--scheduler",
            "slurm",
        ]
        words += ["--time", "5m", "--directive=--hold", "--name", f"s{next(names)}", "--", "echo", "{seed}"]
        return there([HPCSYNAPSE, "study", *words], folder)

    return {count: partial(array, count) for count in (10, 100, 1000)}


def reports(folder: Path) -> Programs:
    """Return the report of a run with so many records."""
    programs: Programs = {}
    for steps in (500, 5000, 50_000):
        place = folder / f"steps-{steps}"
        write_run(Case((BASELINE,), 1, 1, RANKS, steps), (BASELINE, "m0", 0), place, None)
        programs[RANKS * steps] = partial(there, [sys.executable, "-c", REPORT, str(place)], folder)
    return programs


def curve(name: str, unit: str, programs: Programs, rounds: int) -> dict[str, object]:
    """Measure all sizes of one thing and return them with the exponent."""
    found = paired.in_turns(programs, rounds)
    points = [{"size": size, "cpu_s": paired.median_interval(found[size])} for size in sorted(found)]
    (small, low), (large, high) = ((point["size"], point["cpu_s"]["median"]) for point in points[-2:])
    exponent = math.log(high / low) / math.log(large / small)
    told = ", ".join(f"{point['size']:,}: {paired.shown(point['cpu_s'], 1e3, 1)} ms" for point in points)
    print(f"{name}: exponent {exponent:.2f}; {told}", flush=True)
    return {"name": name, "unit": unit, "exponent": exponent, "points": points}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs: Programs = {count: partial(here, partial(rendered, count)) for count in (10, 100, 1000)}
        curves = [curve("describe and render", "jobs", jobs, rounds)]
        curves.append(curve("report of a run", "records", reports(folder), rounds))
        if queue_answers():
            curves.append(curve("queue an array", "runs", arrays(folder), 3))
            subprocess.run(["scancel", "-u", str(os.getuid())], check=True)
        runs = runs_and_queue(folder, 10_000)
        looks: Programs = {count: partial(here, partial(statuses, runs[:count])) for count in (100, 1000, 10_000)}
        curves.append(curve("status", "runs", looks, rounds))
    RESULTS.write_text(json.dumps({**paired.about(), "rounds": rounds, "curves": curves}, indent=1) + "\n")


if __name__ == "__main__":
    main()
