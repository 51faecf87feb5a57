"""What the command line costs beside what anybody would pay: Python's start, importing click, a bare sbatch.

    eval "$(scripts/slurm-lab/up)"; python benchmarks/command_line.py [--rounds 40]

Programs run in turns, in random order within every round; compared are whole processes, the queue's client included,
by processor time (user and system), which other work on the machine lengthens far less than the clock. Printed are
medians of the ratios, or differences, of a round, with 95 % intervals; the control is the reference against itself.
Without a queue that answers (SLURM_CONF), what needs one is left out. Jobs are held and cancelled in the end. Arrays
are part of benchmarks/peers.py. Writes benchmarks/results/command_line.json.

Goals: `--help` at most 1.2 times `import click`; `render` at most 0.1 s beyond importing click and jinja2; `submit` at
most 1.5 times sbatch and Python's start.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import paired

RESULTS = Path(__file__).parent / "results" / "command_line.json"
PYTHON, HPCSYNAPSE = sys.executable, str(Path(sys.executable).with_name("hpcsynapse"))
JOB = """#!/bin/bash
#SBATCH --job-name=bare
#SBATCH --time=5
true
"""
Programs = dict[str, Callable[[], paired.Usage]]


def starts(folder: Path) -> Programs:
    """Return the commands that touch no queue."""
    click, both = [PYTHON, "-c", "import click"], [PYTHON, "-c", "import click, jinja2"]
    render = [HPCSYNAPSE, "render", "--scheduler", "slurm", "--nodes", "4", "--gpus", "4"]
    commands = {
        "python -c pass": [PYTHON, "-c", "pass"],
        "import click": click,
        "import click (control)": click,
        "import click, jinja2": both,
        "--help": [HPCSYNAPSE, "--help"],
        "render": render,
        "status of no run": [HPCSYNAPSE, "status"],
    }
    return {name: partial(paired.process, command, folder) for name, command in commands.items()}


def submissions(folder: Path) -> Programs:
    """Return one held job by sbatch, twice, and one by `submit`."""
    (folder / "job.sh").write_text(JOB)
    sbatch = ["sbatch", "--parsable", "--hold", "job.sh"]
    submit = [HPCSYNAPSE, "submit", "--scheduler", "slurm", "--time", "5m", "--directive=--hold", "--", "true"]
    commands = {"sbatch": sbatch, "sbatch (control)": sbatch, "submit": submit}
    return {name: partial(paired.process, command, folder) for name, command in commands.items()}


def queue_answers() -> bool:
    """Tell whether a Slurm takes jobs here."""
    return shutil.which("sinfo") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0


def measure(programs: Programs, rounds: int) -> dict[str, list[paired.Usage]]:
    found = paired.in_turns(programs, rounds)
    for name, usages in found.items():
        cpu = paired.median_interval([one.cpu for one in usages])
        wall = paired.median_interval([one.wall for one in usages])
        print(f"{name:26} {paired.shown(cpu, 1e3, 1):>24} ms cpu {paired.shown(wall, 1e3, 0):>18} ms")
    return found


def compare(found: dict[str, list[paired.Usage]]) -> dict[str, dict[str, float]]:
    """Return the ratios and differences that the goals are about."""
    cpu = {name: [one.cpu for one in usages] for name, usages in found.items()}
    clicks = cpu["import click"]
    result = {
        "--help / import click": paired.ratio(cpu["--help"], clicks),
        "control: import click / itself": paired.ratio(cpu["import click (control)"], clicks),
        "render - import click, jinja2 [s]": paired.difference(cpu["render"], cpu["import click, jinja2"]),
    }
    if "submit" in cpu:
        rounds = zip(cpu["sbatch"], cpu["python -c pass"], strict=False)
        bare = [one + start for one, start in rounds]
        result |= {
            "submit / (sbatch + python)": paired.ratio(cpu["submit"][: len(bare)], bare),
            "control: sbatch / itself": paired.ratio(cpu["sbatch (control)"], cpu["sbatch"]),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = measure(starts(folder), options.rounds)
        if queue_answers():
            found |= measure(submissions(folder), options.rounds)
            subprocess.run(["scancel", "-u", str(os.getuid())], check=True)
    compared = compare(found)
    for what, value in compared.items():
        print(f"{what:36} {paired.shown(value, 1, 3)}")
    rows = {
        name: {
            "cpu_s": paired.median_interval([one.cpu for one in usages]),
            "wall_s": paired.median_interval([one.wall for one in usages]),
        }
        for name, usages in found.items()
    }
    about = {**paired.about(), "rounds": options.rounds}
    RESULTS.write_text(json.dumps({**about, "commands": rows, "compared": compared}, indent=1) + "\n")


if __name__ == "__main__":
    main()
